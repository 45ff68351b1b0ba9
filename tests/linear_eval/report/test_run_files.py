"""Run: pytest tests/linear_eval/report/test_run_files.py."""

import math
from pathlib import Path

import pytest

from linear_eval.report.run_files import is_run, read_run
from linear_eval.system.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "epoch": 0.5, "loss": null, "timing": {"seconds": 1}}\n'
        '{"step": 2, "epoch": 1.0, "loss": 4.5, "timing": {"seconds": 2.5}}\n'
    )
    return tmp_path


def test_a_run_is_read_while_it_is_being_written(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    run = read_run(folder)
    assert is_run(folder)
    assert [line["step"] for line in run.lines] == [1, 2]
    assert math.isnan(run.lines[0]["loss"])
    assert (run.seconds, run.config, run.status, run.backbone) == (2.5, {"seed": 3}, {}, None)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("metrics.jsonl", '{"step": 1}\nnot JSON\n{"step": 2}\n', "line 2"),
        ("metrics.jsonl", '{"loss": 1}\n{"step": 2}\n', "line 1: no 'step'"),
        ("config.yaml", "[1, 2]", "no mapping"),
        ("config.yaml", "a: [", "is damaged"),
        ("status.json", "{", "a JSON object"),
    ],
)
def test_a_damaged_file_is_named(folder: Path, name: str, text: str, says: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_run(folder)
    assert says in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("timing", ["3", "null", '"long"', '{"seconds": "long"}', "[1]"])
def test_a_time_that_is_none_is_not_known(folder: Path, timing: str) -> None:
    (folder / "metrics.jsonl").write_text(f'{{"step": 1, "timing": {timing}}}\n')
    assert read_run(folder).seconds is None
