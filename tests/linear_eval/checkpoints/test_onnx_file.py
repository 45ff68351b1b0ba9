import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.checkpoints.export import export
from linear_eval.checkpoints.onnx_file import onnx_bytes, run_onnx
from linear_eval.system.errors import InputError

INFO = BackboneInfo(
    architecture="small_conv",
    feature_dim=128,
    image_size=16,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    provenance={"title": "pretrained"},
)
WHY = "exporting to ONNX needs the extra onnx"


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    torch.manual_seed(0)
    network = build_backbone("small_conv")
    with torch.no_grad():
        network(torch.randn(8, 3, 16, 16))
    return network.eval()


@pytest.fixture(scope="module")
def exported(backbone: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=WHY)
    path = tmp_path_factory.mktemp("onnx") / "b.onnx"
    export(backbone, INFO, file_format="onnx", output=path)
    return path


def _images(number: int) -> Tensor:
    return torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(number))


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_graph_takes_any_number_of_images(
    number: int, exported: Path, backbone: nn.Module
) -> None:
    images = _images(number)
    with torch.inference_mode():
        torch.testing.assert_close(run_onnx(exported, images), backbone(images))


def test_onnx_itself_runs_it_where_onnxruntime_is_missing(
    exported: Path, backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with torch.inference_mode():
        torch.testing.assert_close(run_onnx(exported, _images(2)), backbone(_images(2)))


def test_the_graph_is_one_file_that_says_how_to_feed_it(exported: Path) -> None:
    import onnx

    model = onnx.load(str(exported))
    assert list(exported.parent.iterdir()) == [exported]
    assert [entry.name for entry in model.graph.input] == ["images"]
    assert [entry.name for entry in model.graph.output] == ["features"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["backbone"]) == json.loads(json.dumps(asdict(INFO)))


def test_the_graph_holds_no_path_of_the_machine_that_made_it(exported: Path) -> None:
    data = exported.read_bytes()
    for place in (Path(__file__).parents[3], Path(torch.__file__).parent, Path.home(), Path.cwd()):
        assert str(place).encode() not in data, place
    assert b".py" not in data


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(
    package: str, backbone: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'ssl-bf\[onnx\]'"):
        onnx_bytes(backbone, INFO)
