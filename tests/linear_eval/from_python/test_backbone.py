"""`load`, and features of whatever a program has at hand, equal to those of the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import linear_eval
from linear_eval.cli import main
from linear_eval.datasets import TexturesConfig
from linear_eval.system.cores import torch_threads

SPLIT = TexturesConfig(train_images=20, test_images=10).open_train()
HALF = (0.5, 0.5, 0.5)


def test_a_folder_gives_the_features_of_the_command(
    backbone_file: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = linear_eval.load(str(backbone_file)).features(photos)
    assert capfd.readouterr() == ("", "")
    output = tmp_path / "f.npy"
    arguments = ["extract", str(backbone_file), str(photos), "--output", str(output)]
    assert main([*arguments, "features.folder=none"]) == 0
    said = json.loads(output.with_suffix(".json").read_text())
    assert np.array_equal(found.x.numpy(), np.load(output))
    assert [*found.ids] == said["ids"]
    assert found.labels.tolist() == said["labels"]
    assert [*found.class_names] == said["class_names"]


def test_every_way_to_give_images_gives_the_same_features(backbone_file: Path) -> None:
    backbone = linear_eval.load(backbone_file)
    pixels = SPLIT.pixels
    assert pixels is not None
    expected = backbone.features(SPLIT)
    pairs = backbone.features(TensorDataset(pixels, SPLIT.labels), batch_size=7)
    assert torch.equal(pairs.labels, SPLIT.labels)
    assert pairs.class_names == tuple(map(str, range(10)))
    for other in (pairs, backbone.features(pixels), backbone.features(list(pixels.float() / 255))):
        torch.testing.assert_close(other.x, expected.x, rtol=0, atol=1e-5)
        assert other.ids == tuple(map(str, range(20)))


def test_a_module_is_judged_as_its_file_is_and_stays_as_it_is(backbone_file: Path) -> None:
    loaded = linear_eval.load(backbone_file)
    module = loaded.network.train().requires_grad_(True)
    own = linear_eval.load(module, mean=HALF, std=HALF, size=32)
    assert (own.width, own.info.architecture, own.path) == (128, "custom:SmallConv", None)
    assert torch.equal(own.features(SPLIT).x, loaded.features(SPLIT).x)
    assert module.training and next(module.parameters()).requires_grad


def test_images_of_another_size_are_brought_to_that_of_the_backbone(backbone_file: Path) -> None:
    backbone = linear_eval.load(backbone_file)
    large = torch.randint(0, 256, (20, 3, 64, 80), dtype=torch.uint8)
    assert backbone.features(large).x.shape == (20, 128)


def test_the_number_of_threads_is_the_callers(backbone_file: Path) -> None:
    with torch_threads(3):  # not what OMP_NUM_THREADS says here
        linear_eval.load(backbone_file).features(SPLIT)
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        ("missing.safetensors", {}, "missing.safetensors: no such file"),
        (nn.Flatten(), {}, "mean: missing, a module does not say"),
        (nn.Flatten(), {"mean": HALF, "std": HALF}, "size: missing"),
        (nn.Flatten(), {"module": nn.Flatten()}, "module: goes with a backbone file"),
        ("b.safetensors", {"size": 3}, "size: b.safetensors says its own"),
        (3, {}, "backbone: is a int, expected"),
    ],
)
def test_a_wrong_source_is_one_line(source: object, arguments: object, says: str) -> None:
    with pytest.raises(linear_eval.InputError) as caught:
        linear_eval.load(source, **arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_folder_must_be_there(backbone_file: Path, tmp_path: Path) -> None:
    with pytest.raises(linear_eval.InputError, match="nowhere"):
        linear_eval.load(backbone_file).features(tmp_path / "nowhere")
