"""The whole flow on runs of a second: paired, kept, resumed, refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from linear_eval.system.errors import InputError, RunFailed, StoppedBySignal
from ssl_bf.study.tasks import Task
from tests.ssl_bf.study.conftest import Ablate
from tests.tiny_run import snapshot

ALL = [f"train {arm} seed {seed}" for seed in (0, 1) for arm in ("none", "copy")]
JUDGED = [name.replace("train", "judge") for name in ALL]


def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("study/study.json").read_text())
    return found


def test_all_is_trained_before_a_test_image_is_seen_and_the_files_say_what_came_out(
    go: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go() == ALL + JUDGED
    printed = capsys.readouterr().out
    assert "copy - none, stated before the first run, 2 pairs" in printed
    assert "knn/k=5/top1: +0.0 points, 95 % interval +0.0 to +0.0: equal within +-1" in printed
    found = written()
    assert [(run["arm"], run["seed"]) for run in found["runs"]] == [
        ("none", 0),
        ("copy", 0),
        ("none", 1),
        ("copy", 1),
    ]
    assert all(run["metrics"]["knn/k=5/top1"] >= 0 for run in found["runs"])
    assert all(run["seconds"] > 0 for run in found["runs"])
    [contrast] = found["contrasts"]
    wanted = "name metric difference interval p_holm margin equivalent stated_before sentence"
    assert {*wanted.split()} <= contrast.keys()
    assert contrast["equivalent"] is contrast["stated_before"] is True
    one, other = (
        load_file(f"study/runs/{arm}/seed-1/backbone.safetensors") for arm in ("none", "copy")
    )
    for name, values in one.items():  # paired: but for rounding, the same run
        torch.testing.assert_close(other[name], values, rtol=1e-3, atol=1e-4)

    before = snapshot(Path("study/runs"))
    assert go() == []  # all is done
    assert snapshot(Path("study/runs")) == before
    assert go("jobs=2") == []  # no part of what decides the result

    # a third seed, an arm and a contrast more; what is there is kept
    arms = "arms=[{name: none, overrides: [relation.name=none]}, {name: copy, overrides: "
    arms += "[relation.name=copy]}, {name: batchformer}]"
    more = "contrasts=[{arm: copy, against: none, margin: 1.0}, "
    more += "{arm: batchformer, against: none, margin: 1.0}]"
    new: list[str] = []

    def fail(task: Task) -> int:
        new.append(task.name)
        return 1

    with pytest.raises(RunFailed, match="^5 run.s. failed"):
        go("seeds=[0,1,2]", arms, more, fail=fail)
    assert new == [
        f"train {name}"
        for name in (
            *("batchformer seed 0", "batchformer seed 1"),
            *("none seed 2", "copy seed 2", "batchformer seed 2"),
        )
    ]
    assert snapshot(Path("study/runs")) == before
    stated = json.loads(Path("study/record.json").read_text())["stated"]
    assert [each["before_first_run"] for each in stated.values()] == [True, False]

    # what changed is refused by its key, and nothing is touched
    before = snapshot(Path("study"))
    grown = ("seeds=[0,1,2]", arms, more)
    fewer = "contrasts=[{arm: copy, against: none, margin: 1.0}]"
    for overrides, said in (
        ((*grown, "batch_size=8"), "arms.none.batch_size=16, now 8"),
        (grown[:2], "contrast batchformer - none in knn/k=5/top1, now missing"),
        (("seeds=[0,1]", arms, more), "seed 2, now missing"),
        ((grown[0], fewer), "arm batchformer, now missing"),
        ((*grown, "judge.overrides=[knn.temperature=0.1]"), "judge.knn.temperature=0.07, now 0.1"),
        ((*grown[:2], more.replace("1.0", "2.0")), "margin=1.0, now 2.0"),
        ((*grown, "collapsed_below=0.5"), "collapsed_below=0.2, now 0.5"),
    ):
        with pytest.raises(InputError, match="holds a study with ") as refused:
            go(*overrides)
        assert said in str(refused.value)
        assert "new seeds, arms and contrasts only" in str(refused.value)
    assert snapshot(Path("study")) == before


def test_a_run_that_fails_is_named_and_the_others_are_judged(
    go: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(task: Task) -> int | None:
        return 1 if task.name == "train copy seed 1" else None

    with pytest.raises(RunFailed, match="1 run.s. failed"):
        go("seeds=[0,1,2]", "collapsed_below=50", fail=fail)
    printed = capsys.readouterr().out
    assert "(1 pair(s) missing)" in printed
    assert "copy     2       1          2" in printed  # collapsed ones are counted, not dropped
    found = written()
    assert [(each["arm"], each["seed"]) for each in found["failed"]] == [("copy", 1)]
    assert len(found["runs"]) == 5
    assert found["contrasts"][0]["pairs_missing"] == 1
    again = go("seeds=[0,1,2]", "collapsed_below=50")
    assert again == ["train copy seed 1", "judge copy seed 1"]


def test_a_run_that_was_stopped_goes_on_from_its_checkpoint(go: Ablate) -> None:
    def stop(task: Task) -> int | None:
        return 75 if task.name == "train copy seed 0" else None

    with pytest.raises(StoppedBySignal, match="the same command goes on"):
        go("epochs=2", fail=stop)
    assert not Path("study/study.json").exists()
    assert go("epochs=2") == [*ALL[1:], *JUDGED]


def test_wrong_data_stop_the_study_in_one_line(go: Ablate) -> None:
    with pytest.raises(InputError, match="^train none seed 0: batch_size: 64 is more than the"):
        go("batch_size=64")


def test_an_arm_that_cannot_be_built_stops_the_study_before_the_first_run(go: Ablate) -> None:
    arms = [{"name": "none", "overrides": ["relation.name=none"]}]
    arms += [{"name": "copy", "overrides": ["relation.name=bgformer", "relation.top_k=30"]}]
    with pytest.raises(InputError, match=r"^arms: copy: relation.top_k: 30 is above the \d+ rows"):
        go(f"arms={json.dumps(arms)}")
    assert not Path("study").exists()


def test_the_pilot_says_how_many_seeds_and_looks_at_no_test_image(
    go: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    started = go("seeds=[3,4,5,6]", "run.monitor_every=1", "data.holdout=0.25", pilot=True)
    assert started == [f"train {arm} seed {seed}" for seed in (3, 4, 5) for arm in ("none", "copy")]
    printed = capsys.readouterr().out
    assert "pilot: 3 seeds, k-NN on the hold-out" in printed
    assert "copy - none               0.00     +-1             2" in printed
    assert not [*Path("study").glob("runs/*/*/results.json")]


def chosen() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("study/record.json").read_text())["choices"]
    return found


def config_of(arm: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(f"study/runs/{arm}/seed-0/config.yaml").read_text())
    return found


def only_first_seed(task: Task) -> int | None:
    return 1 if task.what == "judge" or task.run.seed == 1 else None


def test_learning_rates_are_chosen_on_the_hold_out_with_seeds_of_their_own(
    go: Ablate, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("learning_rates.seeds=[9]", "run.monitor_every=1", "data.holdout=0.25")
    with pytest.raises(RunFailed):
        go(*asked, "learning_rates.factors=[2,4]", fail=only_first_seed)
    assert len([*Path("study/learning_rates").rglob("backbone.safetensors")]) == 4
    assert not [*Path("study/learning_rates").rglob("results.json")]
    said = capsys.readouterr().err
    assert chosen()["factors"].keys() == {"none", "copy"}
    for arm, factor in chosen()["factors"].items():
        assert f"learning rate of {arm}: x {factor:g} " in said
        base = yaml.safe_load(Path(f"study/configs/{arm}.yaml").read_text())["optimizer"]
        own = config_of(arm)["optimizer"]
        assert own["base_learning_rate"] == factor * base["base_learning_rate"]


def test_equal_seconds_give_each_arm_its_epochs(
    go: Ablate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter([0.1, 0.25])
    monkeypatch.setattr("ssl_bf.study.budget.seconds_per_step", lambda run: next(taken))
    overrides = ("budget.rule=seconds", "budget.seconds=0.5", "optimizer.warmup_epochs=0")
    with pytest.raises(RunFailed):
        go(*overrides, fail=only_first_seed)
    assert chosen()["epochs"] == {"none": 5, "copy": 2}
    said = "budget: copy gets 2 epochs, 0.5 s of 0.5 s (0.25 s an epoch, measured)"
    assert said in capsys.readouterr().err
    assert config_of("none")["epochs"] == 5


def test_a_budget_too_small_says_what_would_fit(
    go: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_bf.study.budget.seconds_per_step", lambda run: 4.0)
    with pytest.raises(InputError, match="0 epochs of none, .* expected more .* 4 s would fit"):
        go("budget.rule=seconds", "budget.seconds=1", "optimizer.warmup_epochs=0")


def test_two_at_once_on_one_folder_are_refused(go: Ablate) -> None:
    from linear_eval.system.folder_lock import sole_use

    Path("study").mkdir()
    with sole_use(Path("study")), pytest.raises(InputError, match="another ablate works in study"):
        go()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: (folder.mkdir(), (folder / "photo.png").touch()), "holds photo.png and no"),
        (lambda folder: folder.write_text("x"), "is a file, expected a folder"),
        (
            lambda folder: (folder.mkdir(), (folder / "record.json").write_text('{"format": ')),
            "is damaged",
        ),
    ],
)
def test_a_folder_of_something_else_is_left_alone(go: Ablate, make: Any, said: str) -> None:
    make(Path("study"))
    before = snapshot(Path())
    with pytest.raises(InputError, match=said):
        go()
    assert snapshot(Path()) == before
