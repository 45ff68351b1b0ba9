import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import linear_eval
from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import file_sha256, save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main
from linear_eval.evaluators.frequency import GROUPS
from linear_eval.results.intervals import is_per_class, mean_scores, scores_key
from linear_eval.results.per_image import read_per_image

ROOT = Path(linear_eval.__file__).parents[1]
CONFIG = """\
data: {name: textures, train_images: 120, test_images: 40}
knn: {k: [1, 20]}
linear_probe: {epochs: 3, learning_rates: [0.01, 0.1, 1.0]}
batch_size: 32
"""
BLOCK_SSL_BF = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'ssl_bf':
            raise ImportError('ssl_bf is blocked')
sys.meta_path.insert(0, Blocker())
from linear_eval.cli import main
sys.exit(main(sys.argv[1:]))
"""


def _save(path: Path, title: str, seed: int) -> Path:
    torch.manual_seed(seed)
    backbone = build_backbone("small_conv")
    backbone(torch.randn(64, 3, 32, 32))
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    save_backbone(path, backbone, BackboneInfo("small_conv", 128, 32, mean, std, {"title": title}))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a config, the judged backbone and another one."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "with").mkdir()
    _save(tmp_path / "with" / "b.safetensors", "pretrained with BatchFormer", 0)
    _save(tmp_path / "without.safetensors", "pretrained without relation", 1)
    return tmp_path


def _run(place: Path, *overrides: str) -> int:
    return main(["run", str(place / "tiny.yaml"), *overrides])


def _judged(place: Path) -> str:
    return f"backbone={place / 'with' / 'b.safetensors'}"


def _results(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def test_the_command_judges_everyone_without_ssl_bf(place: Path) -> None:
    baselines = f"baselines=[random, pixels, {place / 'without.safetensors'}]"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BLOCK_SSL_BF,
            "run",
            str(place / "tiny.yaml"),
            _judged(place),
            baselines,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["percent", "k-NN", "(k=20)"]
    titles = [
        "raw pixels",
        "random backbone",
        "pretrained without relation",
        "pretrained with BatchFormer",
    ]
    for line, title in zip(lines[1:5], titles, strict=True):
        assert line.startswith(title)
        assert len(line.removeprefix(title).split()) == 5
    assert lines[5].startswith("  95 %, test sampling")
    ranges = lines[5].removeprefix("  95 %, test sampling").split()
    for told, value in zip(ranges, lines[4].removeprefix(titles[3]).split(), strict=True):
        low, high = map(float, told.split("-"))
        assert 0 <= low <= float(value) <= high <= 100
    assert "'pretrained with BatchFormer' " in lines[6]
    results = _results(place / "with" / "results.json")
    assert results["protocol"] == "ours"
    assert list(results["baselines"]) == ["pixels", "random", "pretrained without relation"]
    assert f"{results['metrics']['knn/k=20/top1']:.1f}" in lines[4]
    assert sorted(path.name for path in (place / "with").iterdir()) == [
        "b.safetensors",
        "features",
        "results.json",
        "results.per_image.safetensors",
    ]


def test_results_hold_every_key_that_is_promised(place: Path) -> None:
    assert _run(place, _judged(place), "baselines=[pixels]") == 0
    results = _results(place / "with" / "results.json")
    expected = {
        "knn/k=1/top1",
        "knn/k=20/top1",
        "linear_probe/top1",
        "linear_probe/top5",
        "linear_probe/mean_per_class",
        "retrieval/recall@1",
        "retrieval/recall@5",
        "retrieval/recall@10",
        "retrieval/map",
        "retrieval/map@r",
        "retrieval/r_precision",
    }
    assert results["metrics"].keys() == expected
    assert results["baselines"]["pixels"].keys() == expected
    assert all(0 <= value <= 100 for value in results["metrics"].values())
    digest = file_sha256(place / "with" / "b.safetensors")
    assert results["backbone"] == {"architecture": "small_conv", "sha256": digest}
    data = results["data"]
    assert (data["name"], data["classes"]) == ("textures", 10)
    assert (data["train_images"], data["test_images"]) == (120, 40)
    assert len(data["fingerprint"]) == 64
    assert {"torch", "python"} <= results["versions"].keys()
    assert {"features", "knn", "linear_probe", "retrieval", "total"} <= results["seconds"].keys()
    assert results["settings"]["knn"]["temperature"] == 0.07
    assert results["chosen"]["linear_probe/learning_rate"] in (0.01, 0.1, 1.0)
    config = results["config"]  # what a page needs to show the images, and no place
    assert (config["data"]["name"], config["backbone"]) == ("textures", "???")
    assert config["baselines"] == ["pixels"]
    assert "output" not in config
    assert str(place) not in json.dumps(results)


def test_the_answers_lie_beside_the_results_and_make_its_numbers(place: Path) -> None:
    assert _run(place, _judged(place), "baselines=[pixels]") == 0
    path = place / "with" / "results.json"
    results = _results(path)
    answers = read_per_image(path, results["per_image"])
    assert list(answers.scores) == ["pixels", "pretrained with BatchFormer"]
    assert (answers.judged, len(answers.ids)) == ("pretrained with BatchFormer", 40)
    everyone = {
        "pixels": (results["baselines"]["pixels"], results["baseline_intervals"]["pixels"]),
        answers.judged: (results["metrics"], results["intervals"]),
    }
    for key, (metrics, intervals) in everyone.items():
        assert intervals.keys() == metrics.keys()
        for metric, percent in metrics.items():
            values = answers.scores[key][scores_key(metric)][:, None]
            [mean] = mean_scores(values, answers.labels, per_class=is_per_class(metric))
            assert percent == pytest.approx(100 * mean)
            assert 0 <= intervals[metric][0] <= percent <= intervals[metric][1] <= 100
    right = answers.predictions[answers.judged]["knn/k=20"] == answers.labels
    assert results["metrics"]["knn/k=20/top1"] == pytest.approx(100 * float(right.mean()))


def test_two_evaluations_can_be_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("with/b", "without"):
        (place / name).mkdir()
        backbone = f"backbone={place / name}.safetensors"
        assert _run(place, backbone, "evaluators=[knn]", f"output={place / name}") == 0
    assert main(["compare", str(place / "without"), str(place / "with" / "b")]) == 0
    assert "knn/k=20/top1" in capsys.readouterr().out.split("B - A")[1]


def test_two_runs_give_the_same_numbers(place: Path) -> None:
    found = []
    for name in ("a.json", "b.json"):
        output = f"output={place / name}"
        assert _run(place, "backbone=random", "architecture=small_conv", "seed=3", output) == 0
        found.append(_results(place / name)["metrics"])
    assert found[0] == found[1]
    other = ("backbone=random", "architecture=small_conv", "seed=4", output)
    assert _run(place, *other) == 2  # another random backbone
    assert _run(place, *other, "--overwrite") == 0
    assert _results(place / "b.json")["metrics"] != found[0]


def test_only_the_chosen_evaluators_run(place: Path) -> None:
    output = f"output={place / 'r.json'}"
    assert _run(place, "backbone=pixels", "evaluators=[retrieval]", output) == 0
    results = _results(place / "r.json")
    assert {key.split("/")[0] for key in results["metrics"]} == {"retrieval"}
    assert results["backbone"] == {"architecture": "pixels", "sha256": None}


FEW_LABELS = [
    "evaluators=[linear_probe, low_shot, fine_tune]",
    "low_shot.fractions=[0.25]",
    "low_shot.draws=2",
    "low_shot.probe.weight_decays=[0.1]",
    "fine_tune.fractions=[]",
    "fine_tune.images_per_class=[2]",
    "fine_tune.draws=1",
    "fine_tune.learning_rates=[0.1]",
    "fine_tune.recipe.epochs=2",
]


def test_few_labels_are_judged_with_their_spread_and_the_file_is_left_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = file_sha256(place / "with" / "b.safetensors")
    assert _run(place, _judged(place), "baselines=[pixels, random]", *FEW_LABELS) == 0
    lines = capsys.readouterr().out.splitlines()
    results = _results(place / "with" / "results.json")
    metrics, baselines = results["metrics"], results["baselines"]
    assert {"low_shot/25%/top1", "fine_tune/n=2/top1"} <= metrics.keys()
    assert "low_shot/25%/top1" in baselines["pixels"]
    assert "fine_tune/n=2/top1" not in baselines["pixels"]
    assert "fine_tune/n=2/top1" in baselines["random"]
    spread = results["chosen"]["low_shot/25%/spread"]
    assert lines[1].split()[0] == "low_shot/25%/top1"
    assert lines[1].endswith(f"{metrics['low_shot/25%/top1']:.1f} +- {spread:.1f}")
    assert lines[2].split()[:2] == ["fine_tune/n=2/top1", "-"]
    notes = [line for line in lines if line.startswith("note: ")]
    assert len(notes) == 5
    assert re.fullmatch(r"note: \d+ more lines like these: add --verbose", notes[-1])
    assert any(note.startswith("linear_probe/chosen_top1: ") for note in results["notes"])
    assert not re.search(r"\d\.\d{4}", "".join([*lines, *results["notes"]])), "not rounded"
    assert results["settings"]["low_shot"]["draws"] == 2
    assert file_sha256(place / "with" / "b.safetensors") == before


def test_few_labels_are_compared_image_by_image_without_a_new_run(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = {"a": _judged(place), "b": f"backbone={place / 'without.safetensors'}"}
    given = [*FEW_LABELS, "evaluators=[low_shot]", "low_shot.draws=3"]
    for name, judged in sides.items():
        assert _run(place, judged, *given, f"output={place / name}.json") == 0
    results = _results(place / "a.json")
    stored = read_per_image(place / "a.json", results["per_image"])
    classes = [stored.predictions[stored.judged][f"low_shot/25%/draw={draw}"] for draw in range(3)]
    right = np.mean([each == stored.labels for each in classes])
    assert 100 * float(right) == pytest.approx(results["metrics"]["low_shot/25%/top1"])
    capsys.readouterr()
    assert main(["compare", str(place / "a.json"), str(place / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "low_shot and fine_tune: an image's score is its mean over the draws of labels" in said
    row = next(line for line in said.splitlines() if line.startswith("low_shot/25%/top1"))
    assert row.count("[") == 1  # an interval


def test_fine_tuning_changes_no_other_number(place: Path) -> None:
    found = []
    for evaluators in ("[linear_probe]", "[fine_tune, linear_probe]"):
        judged = [*FEW_LABELS, f"evaluators={evaluators}", f"output={place / 'r.json'}"]
        assert _run(place, "backbone=random", "architecture=small_conv", *judged) == 0
        found.append(_results(place / "r.json")["metrics"])
    assert found[0].items() < found[1].items()


def test_a_long_tail_is_reported_by_frequency(place: Path) -> None:
    groups = {f"{each}/{group}" for each in ("knn/k=1", "linear_probe") for group in GROUPS}
    settings = ["backbone=pixels", "knn.k=[1]", f"output={place / 'r.json'}"]
    assert _run(place, *settings) == 0
    assert not groups & _results(place / "r.json")["metrics"].keys()
    thresholds = ["frequency.many_above=8", "frequency.few_below=4"]
    assert _run(place, *settings, "data.long_tail=6", *thresholds) == 0
    results = _results(place / "r.json")
    assert groups <= results["metrics"].keys()
    assert results["data"]["train_images"] < 80


def test_an_output_folder_gets_a_results_json(place: Path) -> None:
    assert _run(place, "backbone=pixels", "evaluators=[knn]", f"output={place}") == 0
    assert (place / "results.json").is_file()


def _image_folder(place: Path, bad: str | None) -> str:
    for split, count in (("train", 12), ("val", 4)):
        for label, color in (("blue", (0, 0, 200)), ("red", (200, 0, 0))):
            folder = place / "data" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 12), tuple(c + 4 * i for c in color)).save(
                    folder / f"{i}.png"
                )
    if bad is not None:
        (place / "data" / bad).write_bytes(b"no image")
    (place / "tiny.yaml").write_text(f"data: {{name: image_folder, root: '{place / 'data'}'}}\n")
    return f"output={place / 'r.json'}"


def test_bad_images_stop_the_run_or_are_counted(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = _image_folder(place, "train/red/3.png")
    settings = ["backbone=pixels", "knn.k=[5]", "retrieval.recall_at=[1]", output]
    assert _run(place, *settings) == 2
    assert "3.png" in capsys.readouterr().err
    assert not (place / "r.json").exists()
    assert _run(place, *settings, "data.on_bad_image=skip", "data.max_bad=1") == 0
    assert "note: 1 train images could not be read and were skipped" in capsys.readouterr().out
    results = _results(place / "r.json")
    assert results["data"]["train_images"] == 23
    assert results["metrics"]["knn/k=5/top1"] == 100.0
    few_labels = [
        *FEW_LABELS,
        "fine_tune.images_per_class=[12]",
        "data.on_bad_image=skip",
        "data.max_bad=1",
    ]
    few_labels += ["backbone=random", "architecture=small_conv", "--overwrite", output]
    assert _run(place, *few_labels) == 0
    assert _results(place / "r.json")["chosen"]["fine_tune/n=12/images"] == 23


def test_a_second_run_reads_the_features_and_decodes_no_image(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _image_folder(place, "train/red/3.png")
    settings = [_judged(place), "knn.k=[5]", "retrieval.recall_at=[1]", output]
    settings += ["baselines=[pixels, random]", f"features.folder={place / 'kept'}"]
    settings += ["data.on_bad_image=skip", "data.max_bad=1"]
    assert _run(place, *settings) == 0
    assert "read from" not in capsys.readouterr().out
    first = _results(place / "r.json")

    def decode(*given: object) -> None:
        raise AssertionError("an image is decoded")

    with monkeypatch.context() as patch:
        patch.setattr("linear_eval.datasets.class_folders.decode_image", decode)
        assert _run(place, *settings, "batch_size=7", "--verbose") == 0
    said = capsys.readouterr().out
    for title in ("raw pixels", "random backbone", "pretrained with BatchFormer"):
        kept = f"{place / 'kept'} ({title}: train, holdout, test)"
        assert said.count(f"note: features: read from {kept}") == 1
    second = _results(place / "r.json")
    for results in (first, second):
        del results["seconds"], results["digest"]  # which is over the seconds, too
    assert second == first


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        (["images.resize=16", "images.crop=16"], "images.resize=32 images.crop=32"),
        (["image_size=16"], "image_size=32"),
    ],
)
def test_another_size_than_that_of_the_training_is_noted_with_the_way_out(
    place: Path, given: list[str], way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(place, _judged(place), "evaluators=[knn]", *given) == 0
    note = f"trained at 32 pixels, judged at 16 as the config says; for its own size set {way_out}"
    assert f"note: images: {note}\n" in capsys.readouterr().out
    assert _run(place, _judged(place), "evaluators=[knn]", *way_out.split()) == 0
    assert "trained at" not in capsys.readouterr().out


def test_features_lie_beside_their_backbone_unless_the_user_wants_none(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, output = place / "without.safetensors", f"output={place / 'r.json'}"
    everyone = [_judged(place), f"baselines=[pixels, {other}]", "evaluators=[knn]", output]
    assert _run(place, *everyone, "features.folder=none") == 0
    expected = _results(place / "r.json")["metrics"]
    assert not list(place.rglob("features"))
    assert _run(place, *everyone) == 0
    assert _run(place, *everyone) == 0
    said = capsys.readouterr().out
    assert said.count("note: features: read from") == 2
    for folder in (place / "features", place / "with" / "features"):
        assert said.count(f"note: features: kept in {folder} (") == 2
    assert _results(place / "r.json")["metrics"] == expected
    for folder in (place / "features", place / "with" / "features"):
        assert len(list(folder.iterdir())) == 3
    assert _run(place, *everyone, "features.dtype=float16") == 0
    assert _results(place / "r.json")["settings"]["features"] == {"dtype": "float16"}
    assert "read from" not in capsys.readouterr().out
    assert len(list((place / "features").iterdir())) == 6


def test_another_seed_of_the_random_backbone_is_another_backbone(place: Path) -> None:
    settings = ["backbone=random", "architecture=small_conv", "evaluators=[knn]"]
    settings += [f"features.folder={place / 'kept'}", "--overwrite", f"output={place / 'r.json'}"]
    for number, change in enumerate(("seed=0", "seed=1", "data.max_images=100"), 1):
        assert _run(place, *settings, change) == 0
        # test features are others as well: BatchNorm was fitted to another train split
        assert len(list((place / "kept").iterdir())) == 3 * number


def test_protocols_are_judged_side_by_side_on_the_same_features(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["protocols=[ours, lightly, simsiam]", "augmented_passes=2", "data.train_images=240"]
    assert _run(place, _judged(place), *asked, "evaluators=[knn, linear_probe]") == 0
    results = _results(place / "with" / "results.json")
    metrics = results["metrics"]
    assert results["protocol"] == "ours"
    assert set(results["protocol_rules"]) == {"ours", "lightly", "simsiam"}
    for key in ("knn/k=20/top1", "linear_probe/top1", "simsiam/linear_probe/mean_per_class"):
        assert key in metrics
    # the same neighbours, another temperature and all of k = 200
    assert {"lightly/knn/k=200/top1", "lightly/knn/k=20/top1"} <= set(metrics)
    assert not any(key.startswith("simsiam/knn") for key in metrics)
    printed = capsys.readouterr().out
    for line in ("ours k-NN (k=20)", "lightly k-NN (k=20)", "simsiam linear top-1"):
        assert any(text.startswith(line) for text in printed.splitlines())
    # the augmented views are kept as well: two passes over train and hold-out, and the three parts
    assert len(list((place / "with" / "features").glob("*/features.bin"))) == 3 + 2 * 2


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["backbone=pixels"], "output: missing, backbone=pixels has no folder"),
        (["backbone=random", "output={place}/r.json"], "architecture: missing"),
        (["backbone={place}/gone.safetensors"], "gone.safetensors: no such file"),
        (["backbone={place}/tiny.yaml"], "tiny.yaml: is no safetensors file"),
        (["backbone={place}/pickle.pth"], "pickle.pth: holds a pickle"),
        (["backbone={place}/cut.safetensors"], "cut.safetensors: is truncated"),
        (["{judged}", "baselines=[{place}/gone.safetensors]"], "gone.safetensors: no such file"),
        (["{judged}", "knn.k=[121]"], "knn.k: 121 neighbours out of a gallery of 120"),
        (
            ["{judged}", "knn.k=[20]", "data.max_images=10"],
            "knn.k: 20 neighbours out of a gallery of 10",
        ),
        (["{judged}", "retrieval.recall_at=[40]"], "retrieval.recall_at: rank 40 among 39 other"),
        (
            ["{judged}", "data.holdout=0", "data.train_images=500"],
            "data.holdout: 0 leaves no images to choose one of 3 settings of linear_probe",
        ),
        (
            ["{judged}", "protocols=[ours, moco]"],
            "moco/knn.k: 200 neighbours out of a gallery of 120 train images; leave protocol",
        ),
        (
            ["{judged}", "evaluators=[low_shot]", "low_shot.images_per_class=[121]"],
            "low_shot.images_per_class: 121, but the largest class of train has",
        ),
        (
            ["{judged}", "evaluators=[fine_tune]", "fine_tune.fractions=[0.1]"],
            "fine_tune.learning_rates: 10% draws one image of a class",
        ),
        (
            ["backbone=pixels", "evaluators=[fine_tune]", "output={place}/r.json"],
            "evaluators: raw pixels have no weights for fine_tune",
        ),
        (["{judged}", "knn.temprature=1"], "Did you mean 'temperature'"),
        (["{judged}", "output={place}/gone/r.json"], "gone: no such folder"),
        (["backbone={place}/gone/b.safetensors"], "b.safetensors: no such file"),
        (
            ["backbone={place}/gone.safetensors", "output={place}/no/r.json"],
            "gone.safetensors: no such file",
        ),
        (["{judged}", "images.crop=64"], "images.crop: 64 does not fit"),
        (["{judged}", "features.folder={place}/tiny.yaml"], "tiny.yaml: cannot be written to"),
        (["{judged}", "features.folder=''"], "features.folder: is empty"),
        (["{judged}", "features.dtype=float8"], "features.dtype: 'float8' is not one of"),
        (["{judged}", "data.name=image_folder", "data.root={place}"], "error: "),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    place: Path, overrides: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, place / "pickle.pth")
    whole = (place / "without.safetensors").read_bytes()
    (place / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    before = sorted(place.rglob("*"))
    given = [text.format(place=place, judged=_judged(place)) for text in overrides]
    assert _run(place, *given) == 2
    captured = capsys.readouterr()
    *progress, error = captured.err.splitlines()
    assert said in error
    assert all(line.startswith("pretrained ") for line in progress)
    assert captured.out == ""
    assert sorted(place.rglob("*")) == before


def test_where_no_terminal_shows_a_bar_every_stage_is_a_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(place, _judged(place), "evaluators=[knn, retrieval]") == 0
    stages = [
        line.rpartition(": ")[2].split(",")[0] for line in capsys.readouterr().err.splitlines()
    ]
    assert stages == ["features", "knn", "retrieval"]
