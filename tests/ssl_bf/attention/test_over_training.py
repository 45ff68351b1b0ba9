"""Tests of ssl_bf.attention.over_training."""

from pathlib import Path

import pytest

from linear_eval.system.errors import InputError
from ssl_bf.attention.over_training import curves


def test_the_values_of_each_key_of_the_relation_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        '{"step": 1, "loss": 2.0, "gate": 0.0, "context_gap/stream_1": 0.5}\n'
        '{"step": 3, "loss": 1.0, "gate": 0.25, "context_gap/stream_1": null}\n'
        '{"step": 5, "ga'  # of a run that goes on
    )
    assert curves(path) == {"gate": ([1, 3], [0.0, 0.25]), "context_gap/stream_1": ([1], [0.5])}
    assert curves(tmp_path / "nothing") == {}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is no JSON, expected "):
        curves(path)
