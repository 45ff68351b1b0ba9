"""The whole flow on 120 tiny images, its runs in this process. pytest tests/ssl_bf/worth."""

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

import ssl_bf.worth.training
from linear_eval.results.worth_file import read_worth
from linear_eval.system.errors import InputError, StoppedBySignal
from linear_eval.system.folder_lock import sole_use
from ssl_bf.cli import main
from ssl_bf.study.tasks import Task
from ssl_bf.worth.plan import Plan, read_plan
from ssl_bf.worth.starts import starts
from ssl_bf.worth.worth import Asked, worth
from tests.ssl_bf.worth.conftest import save_folder
from tests.tiny_run import snapshot


class InThisProcess:
    """Runs a task at once; `stop_at` is the one at which the user presses Ctrl-C."""

    stop_at: str | None = None
    started: ClassVar[list[str]] = []

    def __init__(self, threads: int) -> None:
        assert threads == 1

    def start(self, task: Task, slot: int) -> "InThisProcess":
        del slot
        if task.name == self.stop_at:
            raise KeyboardInterrupt
        self.started.append(task.name)
        self.code = main(task.command()[3:])
        return self

    def poll(self) -> int:
        return self.code

    def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    InThisProcess.stop_at, InThisProcess.started = None, []
    monkeypatch.setattr(ssl_bf.worth.training, "Processes", InThisProcess)


@pytest.fixture
def asked(photos: Path, tmp_path: Path) -> Asked:
    return Asked(folder=photos, output=tmp_path / "out", minutes=1, jobs=1)


def test_a_stopped_contest_says_what_is_known_and_goes_on_to_its_verdict(
    asked: Asked, tiny_plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    InThisProcess.stop_at = "train moco_v2+batchformer-round-1 seed 0"
    with pytest.raises(StoppedBySignal, match="the same command goes on; what is known so far"):
        worth(asked, tiny_plan)
    so_far = read_worth(asked.output)
    assert so_far.verdict.startswith("No verdict yet")
    assert so_far.interval is None
    assert {each.name for each in so_far.contestants} == {"pixels", "random", "supervised"}
    assert (asked.output / "judged" / "holdout").is_dir()
    assert not (asked.output / "judged" / "test").exists()

    first, InThisProcess.stop_at, InThisProcess.started = InThisProcess.started, None, []
    capsys.readouterr()
    outcome = worth(asked)
    assert not {*first} & {*InThisProcess.started}  # what was trained is not trained again
    found = read_worth(asked.output)
    assert outcome.interval is not None
    low, high = outcome.interval
    assert low < outcome.differences[0]["points"] < high
    assert found.verdict == " ".join(outcome.sentences[:2])
    by_name = {each.name: each.by_labels for each in found.contestants}
    assert by_name["pixels"].keys() == {1, 5, 39}
    assert by_name["supervised"].keys() == {5, 39}  # saw these labels alone, and all
    assert {each["labels"] for each in outcome.differences} == {None, 1, 5}
    page = (asked.output / "report.html").read_text()
    assert outcome.sentences[0][:30] in page
    for section in ("worth", "curves", "neighbours", "map"):
        assert f'<section id="{section}">' in page
    assert "report.html" in capsys.readouterr().out

    before = snapshot(asked.output / "judged")
    InThisProcess.started = []
    assert worth(asked).sentences == outcome.sentences
    assert not InThisProcess.started
    assert snapshot(asked.output / "judged") == before

    _check_refusals(asked)


def _check_refusals(asked: Asked) -> None:
    """Of the same output folder."""
    for other in (
        replace(asked, minutes=2),
        replace(asked, folder=asked.folder / "stripes"),
        replace(asked, labels=False),
    ):
        with pytest.raises(InputError, match="holds the worth of"):
            worth(other)
    with (
        sole_use(asked.output),
        pytest.raises(InputError, match="another worth works in"),
    ):
        worth(asked)


def test_without_labels_no_accuracy_is_claimed(asked: Asked, tiny_plan: Plan, frozen: Path) -> None:
    start, *_ = starts([str(frozen)])[0]
    candidates = (start, *tiny_plan.candidates[:1])
    plan = replace(tiny_plan, candidates=candidates, budgets=(), supervised_budgets=(), seeds=1)
    outcome = worth(replace(asked, labels=False, frozen=(str(frozen),)), plan)
    assert outcome.interval is None
    assert not outcome.clear
    assert "nobody can know" in outcome.sentences[0]
    assert "labels a class" in outcome.sentences[1]
    [finalist, random, given] = outcome.contestants
    assert (random.name, given.name) == ("random", "frozen")
    assert finalist.name in {each.name for each in candidates}
    keys = {"rankme", "alignment", "uniformity", "neighbours_kept"}
    assert finalist.metrics.keys() == random.metrics.keys() == keys
    assert not any("top1" in text for text in (asked.output / "worth.json").read_text().split('"'))
    assert read_plan(asked.output) is not None


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "is no folder"),
        ("few", "30 images found, expected 100 or more"),
        ("one", "has one class .only., expected two or more class folders"),
        ("damaged", "0 images that can be read, of 120, found"),
    ],
)
def test_a_folder_that_says_nothing_is_refused(name: str, says: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    if name == "few":
        save_folder(folder, images=15)
    elif name != "absent":
        save_folder(folder)
    if name == "one":
        (folder / "plain").rename(tmp_path / "elsewhere")
        (folder / "stripes").rename(folder / "only")
    elif name == "damaged":
        for path in folder.rglob("*.png"):
            path.write_bytes(b"no image")
    with pytest.raises(InputError, match=says):
        worth(Asked(folder=folder, output=tmp_path / "out", minutes=1))
    assert not (tmp_path / "out").exists()


def test_too_little_time_leaves_the_folder_free(asked: Asked) -> None:
    with pytest.raises(InputError, match=r"--minutes: .* would fit"):
        worth(replace(asked, minutes=0.001))
    assert not asked.output.exists()


def test_wrong_words_are_one_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    for words, says in (
        (["--minutes", "0"], "--minutes: 0, expected"),
        (["--minutes", "inf"], "--minutes: inf, expected"),
        (["--jobs", "0"], "--jobs: 0, expected"),
        (["--frozen", str(tmp_path / "no.safetensors")], "--frozen: "),
        (["--output", str(tmp_path / "other")], "holds letter.txt and no worth"),
        (["--output", str(photos / "out")], "where it would be taken for images"),
        (["--output", str(tmp_path / "other" / "letter.txt")], "is a file, expected a folder"),
    ):
        code = main(["worth", str(photos), "--output", out, *words])
        error = capsys.readouterr().err
        assert code == 2
        assert says in error
        assert len(error.strip().splitlines()) == 1
    assert not Path(out).exists()


def test_json_of_a_contest_is_plain(asked: Asked, tiny_plan: Plan) -> None:
    tiny_plan.write(tmp := asked.folder)
    assert read_plan(tmp) == tiny_plan
    assert json.loads((tmp / "plan.json").read_text())["jobs"] == 1
    (tmp / "plan.json").write_text('{"jobs": 1}')
    with pytest.raises(InputError, match="is damaged or of another version"):
        read_plan(tmp)
