"""What is there stays, unless it is the command's own or given up: outputs of all commands."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main as judge
from linear_eval.evaluation.tables import format_report
from linear_eval.results.per_image import read_per_image, write_per_image
from linear_eval.results.results_file import read_results
from ssl_bf.cli import main as train

TINY = {
    "data": {"name": "image_folder", "root": "images"},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam", "projection_dim": 16, "hidden_dim": 16},
    "optimizer": {"name": "sgd"},
    "epochs": 1,
    "batch_size": 8,
    "speed": {"device": "cpu", "images": "files"},
    "run": {"directory": "trained", "tensorboard": False, "monitor_every": 0},
}
RUN = "run image_folder data.root=images images.resize=16 images.crop=16 evaluators=[knn] knn.k=[1]"
OTHER = f"{RUN} features.folder=none backbone=b.safetensors"
PIXELS = f"{RUN} features.folder=none backbone=pixels"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backbones, images, an index, results of three, a run, a checkpoint."""
    place = tmp_path_factory.mktemp("made")
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "val"):
        for name in "xy":
            (place / "images" / part / name).mkdir(parents=True)
            for number in range(6):
                picture = torch.randint(256, (3, 16, 16), generator=generator, dtype=torch.uint8)
                file = place / "images" / part / name / f"{number}.png"
                torchvision.io.write_png(picture, str(file))
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        info = BackboneInfo("small_conv", 128, 16, (0.5,) * 3, (0.2,) * 3, {"title": name})
        save_backbone(place / f"{name}.safetensors", build_backbone("small_conv"), info)
    info = BackboneInfo("resnet18", 512, 32, (0.5,) * 3, (0.2,) * 3, {"title": "r"})
    save_backbone(place / "r.safetensors", build_backbone("resnet18"), info)
    torch.save({"state_dict": torchvision.models.resnet18().state_dict()}, place / "their.pth")
    (place / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train(["pretrain", "tiny.yaml"]) == 0
        for name in "ab":
            line = f"{RUN} features.folder=none backbone={name}.safetensors output={name}.json"
            assert judge(line.split()) == 0
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def contents(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


WRITERS: list[tuple[Callable[[list[str]], int], str, str]] = [
    (judge, f"{RUN} features.folder=none backbone=a.safetensors", "results.json"),
    (judge, f"{RUN} backbone=a.safetensors output=out/r.json", "out/r.json"),
    (judge, f"{RUN} backbone=a.safetensors output=out/r.json", "out/r.per_image.safetensors"),
    (judge, f"{RUN} backbone=pixels output=out", "out/results.json"),
    (judge, "extract a.safetensors images --output out/f.npy", "out/f.npy"),
    (judge, "extract a.safetensors images --output out/f.npy", "out/f.json"),
    (judge, "convert their.pth --architecture resnet18 --output out/c", "out/c"),
    (judge, "export r.safetensors --format torchvision --output out/o", "out/o"),
    (judge, "quality a.safetensors images --json out/q.json", "out/q.json"),
    (judge, "compare a.json b.json --json out/c.json", "out/c.json"),
    (judge, "index a.safetensors images --output out/index", "out/index/manifest.json"),
    (judge, "query index images/val/x/0.png --json out/j.json --k 2", "out/j.json"),
    (judge, "query index images/val/x/0.png --sheet out/s.png --k 2", "out/s.png"),
    (train, "export trained --format safetensors --output out/b", "out/b"),
    (train, "pretrain tiny.yaml run.directory=out", "out/config.yaml"),
]
NEEDS = {"index": "faiss", "query": "faiss"}


def prepare(line: str) -> None:
    """The folder `out`, and an index to be asked."""
    for word, package in NEEDS.items():
        if word in line.split():
            pytest.importorskip(package)
    Path("out").mkdir()
    if line.startswith("query"):
        assert judge("index a.safetensors images --output index".split()) == 0


@pytest.mark.parametrize(("command", "line", "output"), WRITERS)
def test_what_is_there_stays_until_it_is_given_up(
    command: Callable[[list[str]], int],
    line: str,
    output: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare(line)
    occupied = Path(output)
    if line.startswith("index"):  # an index is replaced by an index only
        assert judge("index b.safetensors images --output out/index".split()) == 0
    else:
        occupied.write_text("precious")
    before = contents(place)
    capsys.readouterr()
    assert command(line.split()) == 2
    said = capsys.readouterr().err
    way_out = "run.overwrite=true" if line.startswith("pretrain") else "--overwrite"
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(occupied.parent) in said
    assert way_out in said
    assert contents(place) == before
    assert command([*line.split(), way_out]) == 0
    assert contents(place)[str(place / output)] != before[str(place / output)]


LINKS = [row for row in WRITERS if not row[1].startswith(("pretrain", "index"))]


@pytest.mark.parametrize(("command", "line", "output"), LINKS)
def test_a_link_to_nothing_is_there_too(
    command: Callable[[list[str]], int], line: str, output: str, place: Path
) -> None:
    prepare(line)
    Path(output).symlink_to("gone")
    assert command(line.split()) == 2
    assert Path(output).is_symlink()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (judge, f"{RUN} backbone=a.safetensors output=a.safetensors"),
        (judge, f"{RUN} backbone=a.safetensors baselines=[b.safetensors] output=b.safetensors"),
        (judge, "convert their.pth --architecture resnet18 --output their.pth"),
        (judge, "export r.safetensors --format torchvision --output r.safetensors"),
        (judge, "quality a.safetensors images --json a.safetensors"),
        (judge, "compare a.json b.json --json b.json"),
        (judge, "compare a.json b.json --json a.per_image.safetensors"),
        (judge, "query index link.png --sheet link.png --k 1"),
        (judge, "query index images/val/x/0.png --json index/manifest.json --k 1"),
        (judge, "query index images/val/x/0.png --sheet images/train/y/1.png --k 1"),
        (judge, "run judge.yaml output=judge.yaml"),
        (judge, f"{RUN} backbone=a.safetensors output=images/val/x/1.png"),
        (judge, "quality a.safetensors images --json images/train/x/1.png"),
        (judge, "compare a.json b.json --json images/train/x/1.png"),
        (train, "export trained --output trained/config.yaml"),
    ],
)
def test_what_a_command_reads_is_never_replaced(
    command: Callable[[list[str]], int], line: str, place: Path
) -> None:
    prepare(line)
    Path("link.png").symlink_to("images/val/x/0.png")
    judged = {"data": {"name": "image_folder", "root": "images"}, "backbone": "pixels"}
    Path("judge.yaml").write_text(yaml.safe_dump(judged))
    before = contents(place)
    assert command([*line.split(), "--overwrite"]) == 2
    assert contents(place) == before


@pytest.mark.parametrize(
    "key", ["backbone.init=trained/backbone.safetensors", "speed.like=trained"]
)
def test_a_run_never_gives_up_the_run_that_it_reads(
    key: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    line = f"pretrain tiny.yaml run.directory=trained run.overwrite=true {key}"
    assert train(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: run.directory: trained holds trained")
    assert f"which this run reads ({key.partition('=')[0]})" in said
    assert contents(place) == before


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (judge, f"{RUN} backbone=a.safetensors"),
        (judge, f"{RUN} backbone=a.safetensors output=r.json"),
        (judge, f"{RUN} backbone=pixels output=r.json"),
        (judge, f"{RUN} backbone=random architecture=small_conv output=r.json"),
        (judge, "quality a.safetensors images --json q.json"),
        (train, "export trained"),
        (train, "pack images store"),
    ],
)
def test_the_same_command_again_replaces_its_own(
    command: Callable[[list[str]], int], line: str, place: Path
) -> None:
    assert command(line.split()) == 0
    assert command(line.split()) == 0


# Results of two backbones


@pytest.mark.parametrize(
    "other",
    [
        OTHER,
        f"{OTHER} output=results.json",
        f"{OTHER} output=.",
        f"{PIXELS} output=results.json",
        f"{RUN} backbone=random architecture=small_conv output=results.json",
    ],
)
def test_results_of_another_backbone_stay(
    other: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge(f"{RUN} features.folder=none backbone=a.safetensors".split()) == 0
    before = contents(place)
    capsys.readouterr()
    assert judge(other.split()) == 2
    assert "results.json holds results of another backbone (small_conv, sha256" in (
        capsys.readouterr().err
    )
    assert contents(place) == before


def test_answers_per_image_stay_where_the_results_were_moved_away(place: Path) -> None:
    line = f"{RUN} features.folder=none backbone=a.safetensors".split()
    assert judge(line) == 0
    Path("results.json").rename("first.json")
    assert judge(OTHER.split()) == 2
    first = read_results(Path("first.json"))
    assert read_per_image(first.path, first.per_image).backbone is not None
    assert judge(line) == 0  # they are of this backbone


@pytest.mark.parametrize(("backbone", "code"), [("a", 0), ("b", 2)])
def test_answers_of_an_earlier_version_belong_to_the_results_beside_them(
    backbone: str, code: int, place: Path
) -> None:
    results = read_results(Path("a.json"))
    answers = replace(read_per_image(results.path, results.per_image), backbone=None)
    said = json.loads(Path("a.json").read_text())
    said["per_image"] = write_per_image(Path("old.json"), answers)
    Path("old.json").write_text(json.dumps(said))
    line = f"{RUN} features.folder=none backbone={backbone}.safetensors output=old.json"
    assert judge(line.split()) == code


def test_of_two_evaluations_at_a_time_the_later_one_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = format_report

    def meanwhile(*arguments: object, **options: object) -> str:
        shutil.copy("b.json", "results.json")
        return report(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("linear_eval.evaluation.run.format_report", meanwhile)
    assert judge(f"{RUN} features.folder=none backbone=a.safetensors".split()) == 2
    assert Path("results.json").read_bytes() == Path("b.json").read_bytes()
    assert not Path("results.per_image.safetensors").exists()
    assert "holds results of another backbone" in capsys.readouterr().err


def test_a_run_that_is_overwritten_takes_its_own_results_away_and_no_others(place: Path) -> None:
    again = "pretrain tiny.yaml run.overwrite=true seed={}"
    line = f"{RUN} features.folder=none backbone={{}} output=trained"
    assert judge(line.format("trained/backbone.safetensors").split()) == 0
    assert train(again.format(1).split()) == 0
    assert not list(Path("trained").glob("results.*"))
    assert judge(line.format("a.safetensors").split()) == 0
    assert train(again.format(2).split()) == 0
    assert len(list(Path("trained").glob("results.*"))) == 2


def test_another_store_is_never_replaced(place: Path) -> None:
    assert train(["pack", "images", "store"]) == 0
    Path("images/train/x/0.png").unlink()
    before = contents(place)
    assert train(["pack", "images", "store"]) == 2
    assert contents(place) == before


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (judge, f"{RUN} features.folder=none backbone=a.safetensors output=out/r.json"),
        (judge, "extract a.safetensors images/train --output out/f.npy"),
        (judge, "quality a.safetensors images/train --json out/q.json"),
        (judge, "index a.safetensors images/train --output out/index"),
        (train, "pretrain tiny.yaml run.directory=out"),
        (train, "pack images/train out/store"),
    ],
)
def test_every_command_counts_what_it_does_not_read_in_one_line(
    command: Callable[[list[str]], int],
    line: str,
    place: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare(line)
    for name in ("a.txt", "b.txt", "movie.mp4"):
        (place / "images/train/x" / name).write_text("no image")
    assert command(line.split()) == 0
    said = "".join(capfd.readouterr())
    assert said.count("3 files are not read as images: 2 .txt, 1 .mp4") == 1
