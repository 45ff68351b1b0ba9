from pathlib import Path

import pytest
import torch

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import file_sha256, save_backbone
from linear_eval.backbones.backbone_header import IMAGENET_MEAN, BackboneInfo
from linear_eval.datasets import TexturesConfig
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.evaluation.contestants import open_contestants
from linear_eval.evaluation.run import results_path
from linear_eval.features.table import collect_features
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.system.errors import InputError

DATA = TexturesConfig(train_images=60, test_images=20)


def _file(path: Path, title: object, architecture: str = "small_conv") -> str:
    info = BackboneInfo(
        architecture=architecture,
        feature_dim={"small_conv": 128, "resnet18": 512}[architecture],
        image_size=32,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        provenance={"title": title},
    )
    path.parent.mkdir(exist_ok=True)
    save_backbone(path, build_backbone(architecture), info)
    return str(path)


def _config(backbone: str, *baselines: str, architecture: str | None = None) -> EvaluateConfig:
    return EvaluateConfig(
        data=DATA, backbone=backbone, baselines=baselines, architecture=architecture
    )


def test_the_table_begins_with_pixels_and_ends_with_the_judged_backbone(tmp_path: Path) -> None:
    main = _file(tmp_path / "main", "pretrained with BatchFormer")
    plain = _file(tmp_path / "plain", "pretrained without relation")
    found = open_contestants(_config(main, plain, "random", "pixels"))
    assert [contestant.title for contestant in found] == [
        "raw pixels",
        "random backbone",
        "pretrained without relation",
        "pretrained with BatchFormer",
    ]
    assert [contestant.key for contestant in found][:2] == ["pixels", "random"]
    assert found[-1].sha256 == file_sha256(Path(main))


def test_random_takes_architecture_and_input_from_the_judged_file(tmp_path: Path) -> None:
    main = _file(tmp_path / "main", "a", "resnet18")
    other = _file(tmp_path / "other", "b")
    random = open_contestants(_config(main, other, "random"))[0]
    assert (random.architecture, random.mean) == ("resnet18", (0.1, 0.2, 0.3))
    random = open_contestants(_config("random", other))[-1]
    assert random.architecture == "small_conv"
    random = open_contestants(_config(main, "random", architecture="small_conv"))[0]
    assert random.architecture == "small_conv"


def test_random_alone_needs_an_architecture() -> None:
    with pytest.raises(InputError, match="architecture: missing, 'random' needs one"):
        open_contestants(_config("random"))
    with pytest.raises(InputError, match="architecture: 'resnet19' is not known"):
        open_contestants(_config("random", architecture="resnet19"))
    assert open_contestants(_config("random", architecture="small_conv"))[0].mean == IMAGENET_MEAN


@pytest.mark.parametrize("title", [None, "", 7, "pixels", "random"])
def test_a_file_without_a_usable_title_goes_by_its_path(tmp_path: Path, title: object) -> None:
    main = _file(tmp_path / "main", title)
    assert open_contestants(_config(main))[0].title == main


def test_equal_titles_are_told_apart_by_their_folders_or_by_their_paths(tmp_path: Path) -> None:
    main, other = _file(tmp_path / "a" / "b", "same"), _file(tmp_path / "c" / "b", "same")
    found = open_contestants(_config(main, other))
    assert [contestant.key for contestant in found] == ["same (c)", "same (a)"]
    third = _file(tmp_path / "c" / "d", "same")
    found = open_contestants(_config(main, other, third))
    assert [contestant.key for contestant in found] == [
        f"same ({other})",
        f"same ({third})",
        "same (a)",
    ]


def test_a_broken_baseline_file_is_met_before_anything_is_computed(tmp_path: Path) -> None:
    main = _file(tmp_path / "main", "a")
    with pytest.raises(InputError, match="gone: no such file"):
        open_contestants(_config(main, str(tmp_path / "gone")))


def test_the_random_backbone_is_calibrated_before_it_is_used(tmp_path: Path) -> None:
    split = DATA.open_train()
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=30)
    random = open_contestants(_config("random", architecture="small_conv"))[0]
    with random.embedding(batches, seed=0, device=torch.device("cpu")) as embed:
        features = collect_features(embed, batches).features
    # calibrated on these 60 images: before the last ReLU each channel has mean 0 and variance 1
    assert 0.2 < float(features.mean()) < 0.6
    assert random.backbone is not None
    norms = [m for m in random.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.num_batches_tracked == 1 for norm in norms)


def test_features_of_a_file_use_its_own_mean_and_std(tmp_path: Path) -> None:
    main = _file(tmp_path / "main", "a")
    split = DATA.open_test()
    batches = ImageBatches(split=split, images=EvalImages(), batch_size=20)
    contestant = open_contestants(_config(main))[0]
    with contestant.embedding(batches, seed=0, device=torch.device("cpu")) as embed:
        found = collect_features(embed, batches).features
    assert split.pixels is not None
    assert contestant.backbone is not None
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    expected = contestant.backbone((split.pixels.float() / 255 - mean) / std)
    torch.testing.assert_close(found, expected)


def test_an_architecture_beside_a_file_is_refused_unless_random_is_judged(tmp_path: Path) -> None:
    main = _file(tmp_path / "main", "a")
    with pytest.raises(InputError, match=r"^architecture: 'resnet18' is for the random backbone"):
        open_contestants(_config(main, architecture="resnet18"))
    assert len(open_contestants(_config(main, "random", architecture="small_conv"))) == 2


def test_a_model_of_timm_is_judged_with_timms_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm", reason="models of timm need the extra timm")
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, num_classes, pretrained=False: create(name, num_classes=0),
    )
    config = _config("timm:test_resnet", "random")
    assert config.backbone_files == ()
    random, judged = open_contestants(config)
    assert judged.title == "timm:test_resnet.r160_in1k"
    assert judged.is_file
    assert (judged.path, judged.image_size) == (None, 160)
    assert random.architecture == "timm:test_resnet.r160_in1k"
    with pytest.raises(InputError, match="output: missing, backbone=timm:test_resnet has no"):
        results_path(config)
    alone = open_contestants(_config("random", architecture="timm:tf_efficientnet_lite0"))[0]
    assert alone.mean == (0.5, 0.5, 0.5)
