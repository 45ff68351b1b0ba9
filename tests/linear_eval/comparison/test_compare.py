import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from linear_eval.cli import main
from linear_eval.comparison.mcnemar import mcnemar_p
from linear_eval.comparison.student_t import paired_t_interval, welch_interval
from linear_eval.results.intervals import mean_scores
from linear_eval.results.per_image import PerImage, write_per_image
from linear_eval.results.seal import sealed

NUM_IMAGES = 300
ROOT = Path(__file__).parents[3]
LABELS = torch.arange(NUM_IMAGES) % 30
Edit = Callable[[dict[str, Any]], object]


def _write(
    folder: Path, seed: int, *, skill: float = 0.7, keep: slice = slice(None), edit: Edit = bool
) -> Path:
    """An evaluation with made-up answers, as `linear-eval run` would leave it."""
    folder.mkdir()
    draws = torch.rand(
        NUM_IMAGES, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )[keep]
    labels = LABELS[keep]
    scores = {"knn/k=20/top1": (draws[:, 0] < skill).double(), "retrieval/map": draws[:, 1]}
    scores["linear_probe/top1"] = (draws[:, 1] < skill).double()
    arrays = {key: values.numpy() for key, values in scores.items()}
    per_image = PerImage(
        ids=tuple(f"{i}.png" for i in range(NUM_IMAGES))[keep],
        labels=labels.numpy(),
        class_names=tuple(f"class {i}" for i in range(30)),
        judged=f"seed {seed}",
        scores={f"seed {seed}": arrays},
        predictions={f"seed {seed}": {}},
    )
    metrics = {key: 100 * float(values.mean()) for key, values in scores.items()}
    [mean] = mean_scores(arrays["linear_probe/top1"][:, None], labels.numpy(), per_class=True)
    results: dict[str, Any] = {
        "metrics": {**metrics, "linear_probe/mean_per_class": 100 * mean},
        "protocol": "ours",
        "settings": {"knn": {"temperature": 0.07}},
        "backbone": {"architecture": "small_conv", "sha256": f"{seed:064d}"},
        "data": {
            "name": "made up",
            "classes": 30,
            "train_images": 900,
            "test_images": len(labels),
            "fingerprint": "f" * 64,
            "contents": {"train": "1" * 64, "test": "2" * 64},
        },
        "per_image": write_per_image(folder / "results.json", per_image),
    }
    edit(results)
    (folder / "results.json").write_text(json.dumps(sealed(results)))
    return folder


def _metrics(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "results.json").read_text())["metrics"]
    return metrics


def _compare(place: Path, *arguments: str) -> dict[str, Any]:
    given = [
        str(place / word) if word in ("a", "b") or word[1:].isdigit() else word
        for word in arguments
    ]
    assert main(["compare", *given, "--json", str(place / "out.json"), "--overwrite"]) == 0
    found: dict[str, Any] = json.loads((place / "out.json").read_text())
    return found


def test_two_models_are_compared_image_by_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = _write(tmp_path / "a", 0), _write(tmp_path / "b", 1, skill=0.85)
    found = _compare(tmp_path, "a", "b")
    assert list(found["metrics"]) == list(_metrics(a))
    for key, row in found["metrics"].items():
        assert row["a"] == pytest.approx(_metrics(a)[key])
        assert row["b"] == pytest.approx(_metrics(b)[key])
        assert row["difference"] == pytest.approx(row["b"] - row["a"])
        assert row["interval"][0] < row["difference"] < row["interval"][1]
    knn = found["metrics"]["knn/k=20/top1"]
    assert knn["only_b"] - knn["only_a"] == round(knn["difference"] * NUM_IMAGES / 100)
    assert knn["mcnemar_p"] == mcnemar_p(knn["only_a"], knn["only_b"]) < 0.05
    assert knn["interval"][0] > 0
    for key in ("retrieval/map", "linear_probe/mean_per_class"):
        assert found["metrics"][key]["mcnemar_p"] is None
    said = capsys.readouterr().out
    assert f"A: seed 0 ({a / 'results.json'})" in said
    assert "one model each: says nothing about other pretraining seeds" in said
    assert "4 metrics were compared" in said
    assert said.splitlines()[-1] == f"written: {tmp_path / 'out.json'}"


def test_the_paired_interval_is_that_of_the_differences(tmp_path: Path) -> None:
    # B repeats A's answers but for few images: pairing makes the interval narrow
    a = _write(tmp_path / "a", 0, skill=0.70)
    _write(tmp_path / "b", 0, skill=0.72)
    row = _compare(tmp_path, "a", "b")["metrics"]["knn/k=20/top1"]
    assert row["only_a"] == 0 < row["only_b"]
    share = row["only_b"] / NUM_IMAGES
    half = 196 * (share * (1 - share) / NUM_IMAGES) ** 0.5
    expected = (row["difference"] - half, row["difference"] + half)
    assert row["interval"] == pytest.approx(expected, abs=0.4 * half)
    alone = 196 * (0.7 * 0.3 / NUM_IMAGES) ** 0.5
    assert half < alone / 2
    assert a.is_dir()


def test_by_class_resamples_classes_and_makes_no_image_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "a", 0)
    _write(tmp_path / "b", 1)
    rows = _compare(tmp_path, "a", "b", "--by", "class")["metrics"]
    assert {row["unit"] for row in rows.values()} == {"class"}
    assert {row["mcnemar_p"] for row in rows.values()} == {None}
    assert "classes resampled whole, all 30 of them: knn" in capsys.readouterr().out


def test_a_metric_without_scores_has_a_difference_and_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", 3.0), ("b", 5.0)):
        folder = _write(tmp_path / name, ord(name))
        results = json.loads((folder / "results.json").read_text())
        results["metrics"]["rankme"] = value
        (folder / "results.json").write_text(json.dumps(sealed(results)))
    row = _compare(tmp_path, "a", "b")["metrics"]["rankme"]
    assert (row["difference"], row["interval"]) == (2.0, None)
    assert "no interval, because no mean over several images or classes: rankme" in (
        capsys.readouterr().out
    )


def test_settings_that_differ_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "a", 0)
    _write(tmp_path / "b", 1, edit=lambda r: r["settings"]["knn"].update(temperature=0.1))
    notes = _compare(tmp_path, "a", "b")["notes"]
    assert notes[0] == "judged with different settings, which differ too: knn.temperature"


def test_parts_that_one_side_did_not_read_are_not_compared(tmp_path: Path) -> None:
    _write(tmp_path / "a", 0, edit=lambda r: r["data"]["contents"].pop("train"))
    _write(tmp_path / "b", 1)
    assert not any("earlier version" in note for note in _compare(tmp_path, "a", "b")["notes"])


def test_results_of_an_earlier_version_are_compared_and_what_is_not_known_is_said(
    tmp_path: Path,
) -> None:
    _write(tmp_path / "a", 0)
    _write(tmp_path / "b", 1, edit=lambda r: r["data"].pop("contents"))
    note = _compare(tmp_path, "a", "b")["notes"][0]
    assert "b/results.json: written by an earlier version, which did not keep what" in note


def test_images_of_one_side_are_left_out_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "a", 0)
    _write(tmp_path / "b", 0, keep=slice(7, None))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err
    assert "b/results.json: other images could be read than for" in error
    assert "test_images 293 against 300" in error
    found = _compare(tmp_path, "a", "b", "--common-images")
    assert "7 test images that only one side has were left out" in found["notes"]
    for row in found["metrics"].values():
        # what is left was drawn by one generator: both sides answer alike
        assert row["difference"] == pytest.approx(0, abs=1e-9)
        assert row["interval"] == pytest.approx([0, 0], abs=1e-9)


def test_as_many_images_but_others_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path / "a", 0, keep=slice(0, 290))
    _write(tmp_path / "b", 1, keep=slice(10, 300))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "test images: 20 were read for one side only, such as '0.png'" in capsys.readouterr().err


@pytest.mark.parametrize("paired", [False, True])
def test_several_runs_are_compared_by_run(
    tmp_path: Path, paired: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    a = [_write(tmp_path / f"a{i}", i) for i in range(3)]
    b = [_write(tmp_path / f"b{i}", 10 + i, skill=0.8) for i in range(3)]
    options = ["--paired"] if paired else []
    names = ["a0", "a1", "a2", "--against", "b0", "b1", "b2"]
    found = _compare(tmp_path, *names, *options)
    interval_of = paired_t_interval if paired else welch_interval
    for key, row in found["metrics"].items():
        of_a, of_b = ([_metrics(folder)[key] for folder in side] for side in (a, b))
        assert row["a"] == pytest.approx(statistics.fmean(of_a))
        assert row["b_std"] == pytest.approx(statistics.stdev(of_b))
        assert row["interval"] == pytest.approx(interval_of(of_a, of_b))
    said = capsys.readouterr().out
    assert ("paired t over 3 pairs" if paired else "Welch t, 3 runs against 3") in said
    assert "says nothing about other test images" in said


def _with_seed(seed: int | None) -> Edit:
    return lambda results: results["backbone"].update({} if seed is None else {"seed": seed})


def test_pairs_are_formed_by_seed_whatever_the_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (of_a, of_b) in enumerate(((0, 2), (1, 0), (2, 1))):
        _write(tmp_path / f"a{number}", number, edit=_with_seed(of_a))
        _write(tmp_path / f"b{number}", 10 + number, edit=_with_seed(of_b))
    in_order = ["a0", "a1", "a2", "--against", "b1", "b2", "b0", "--paired"]
    found = _compare(tmp_path, *in_order)
    for key, row in found["metrics"].items():
        values_a, values_b = (
            [_metrics(tmp_path / name)[key] for name in names]
            for names in (("a0", "a1", "a2"), ("b1", "b2", "b0"))
        )
        assert row["interval"] == pytest.approx(paired_t_interval(values_a, values_b))
    assert "3 pairs of runs, by pretraining seed: 0, 1, 2" in capsys.readouterr().out
    mixed = _compare(tmp_path, "a0", "a1", "a2", "--against", "b0", "b1", "b2", "--paired")
    assert mixed["metrics"] == found["metrics"]


@pytest.mark.parametrize("seeds", [(0, 2), (1, 1)])
def test_seeds_that_do_not_match_make_no_pairs(
    tmp_path: Path, seeds: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    for number, seed in enumerate(seeds):
        _write(tmp_path / f"a{number}", number, edit=_with_seed(number))
        _write(tmp_path / f"b{number}", 10 + number, edit=_with_seed(seed))
    a, b = ([str(tmp_path / f"{side}{number}") for number in (0, 1)] for side in "ab")
    assert main(["compare", *a, "--against", *b, "--paired"]) == 2
    listed = ", ".join(map(str, seeds))
    expected = f"--paired: the pretraining seeds of A are 0, 1, those of B {listed}, expected"
    assert expected in capsys.readouterr().err
    assert main(["compare", *a, "--against", *b]) == 0


def test_without_seeds_the_pairs_are_said(tmp_path: Path) -> None:
    for number in (0, 1):
        _write(tmp_path / f"a{number}", number, edit=_with_seed(number))
        _write(tmp_path / f"b{number}", 10 + number, edit=_with_seed(None))
    notes = _compare(tmp_path, "a0", "a1", "--against", "b1", "b0", "--paired")["notes"]
    pairs = ", ".join(
        f"{tmp_path / a / 'results.json'} with {tmp_path / b / 'results.json'}"
        for a, b in (("a0", "b1"), ("a1", "b0"))
    )
    assert any(f"because not every file knows its seed: {pairs}:" in note for note in notes)


def _under(*protocols: str) -> Edit:
    """The metrics of each protocol, those of `ours` without a prefix."""

    def edit(results: dict[str, Any]) -> None:
        prefixes = ["" if name == "ours" else f"{name}/" for name in protocols]
        metrics = results["metrics"]
        results["metrics"] = {p + key: value for p in prefixes for key, value in metrics.items()}
        results["protocol"] = protocols[0]
        results["protocol_rules"] = {name: {} for name in protocols}

    return edit


def test_protocols_that_one_side_lacks_are_named_and_left_out(tmp_path: Path) -> None:
    _write(tmp_path / "a", 0, edit=_under("ours", "moco"))
    _write(tmp_path / "b", 1, edit=_under("moco", "solo"))
    found = _compare(tmp_path, "a", "b")
    assert {key.partition("/")[0] for key in found["metrics"]} == {"moco"}
    assert found["notes"][0] == ("protocols left out, since not every side has them: ours, solo")
    assert not any(note.startswith("not compared") for note in found["notes"])


def test_several_runs_need_no_per_image_file(tmp_path: Path) -> None:
    for name in ("a0", "a1", "b0", "b1", "b2"):
        folder = _write(tmp_path / name, 100 * (name[0] == "b") + int(name[1]))
        (folder / "results.per_image.safetensors").unlink()
    _compare(tmp_path, "a0", "a1", "--against", "b0", "b1", "b2")


def _rename(results: dict[str, Any]) -> None:
    results["metrics"] = {f"x/{key}": value for key, value in results["metrics"].items()}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: r.update(protocol="moco"), "b/results.json: made under protocol 'moco'"),
        (lambda r: r["backbone"].update(seed="x"), "has a 'backbone.seed' that is no whole number"),
        (
            lambda r: r["data"].update(fingerprint="e" * 64, train_images=5),
            "judged on other data than {a} (train_images 5 against 900, fingerprint eeeeeeeeeeee",
        ),
        (lambda r: r["data"].update(train_images=899), "train_images 899 against 900"),
        (lambda r: r.pop("per_image"), "b/results.json: names no file of per-image answers"),
        (lambda r: r["per_image"].update(sha256="0"), "b/results.per_image.safetensors: is not"),
        (lambda r: r["per_image"].update(file="../x.safetensors"), "names no file in 'per_image'"),
        (_rename, "metrics: none in common, {a} has knn/k=20/top1"),
        (lambda r: r["metrics"].update(x="y"), "has metrics that are no numbers"),
        (lambda r: r.pop("data"), "b/results.json: has no 'data'"),
        (lambda r: r["data"].clear(), "has no 'data.fingerprint'"),
        (lambda r: r["data"].update(contents=["2" * 64]), "has no 'data.contents' by part"),
        (
            lambda r: r["data"]["contents"].update(test="3" * 64),
            "judged on other images than {a}: test with the same names, labels and sizes, but",
        ),
    ],
)
def test_what_does_not_compare_is_one_line_and_exit_2(
    tmp_path: Path, edit: Edit, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = _write(tmp_path / "a", 0), _write(tmp_path / "b", 1, edit=edit)
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "out.json")]) == 2
    captured = capsys.readouterr()
    assert said.format(a=a / "results.json") in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{p}/a {p}/a/../a/results.json", "results.json: given twice"),
        ("{p}/a", "RESULTS: 1 given, expected two"),
        ("{p}/a {p}/b {p}/c", "RESULTS: 3 given, expected two, A and B; for several runs"),
        ("{p}/a --against {p}/b {p}/c", "runs: 1 against 2, expected one of either side or two"),
        ("{p}/a {p}/b --paired", "--paired: pairs runs"),
        ("{p}/a {p}/b --against {p}/c {p}/d {p}/e --paired", "--paired: 2 runs against 3"),
        ("{p}/a {p}/b --against {p}/c {p}/d --by class", "--by: is for two models"),
        ("{p}/a {p}/b --against {p}/c {p}/d --common-images", "--common-images: is for two"),
        ("{p}/a {p}/b --against {p}/c {p}/again", "judges the same backbone file as"),
        ("{p}/a {p}/b --json {p}/b/results.json", "--json: "),
        ("{p}/a {p}/b --json {p}/gone/out.json", "gone: no such folder"),
        ("{p}/a {p}/gone", "gone: no such file"),
        ("{p}/a {p}", "results.json: no such file"),
        ("{p}/a {p}/notes.txt", "notes.txt: is no JSON"),
        ("{p}/a {p}/list.json", "list.json: holds no JSON object"),
        ("{p}/a {p}/latin.json", "latin.json: line 1: byte 0xE4 is not UTF-8"),
        ("{p}/a {p}/half.json", "half.json: is cut off or damaged (Unterminated string"),
        ("{p}/a {p}/half.json", "; copy it once more, or judge again"),
        ("{p}/a {p}/empty.json", "empty.json: is cut off or damaged"),
    ],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    tmp_path: Path, arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate("abcde"):
        _write(tmp_path / name, seed)
    _write(tmp_path / "again", 0)
    (tmp_path / "notes.txt").write_text("no results")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "half.json").write_text('{"metrics": {"knn_t')
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe4"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["compare", *arguments.format(p=tmp_path).split()]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_backbone_judged_twice_is_said(tmp_path: Path) -> None:
    _write(tmp_path / "a", 0)
    _write(tmp_path / "b", 0)
    found = _compare(tmp_path, "a", "b")
    assert "both sides judge the same backbone file" in found["notes"]
    assert {row["mcnemar_p"] for row in found["metrics"].values()} == {1.0, None}


def test_a_comparison_does_not_wait_for_torch(tmp_path: Path) -> None:
    sides = [str(_write(tmp_path / name, seed)) for seed, name in enumerate("ab")]
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('torch._C' in sys.modules, file=sys.stderr))\n"
        f"sys.argv = {['linear_eval', 'compare', *sides]}\n"
        "runpy.run_module('linear_eval', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert "McNemar" in done.stdout
