"""Run: pytest tests/linear_eval/report/test_again.py."""

from pathlib import Path
from typing import Any

from linear_eval.report.again import config_differences, config_text, pretrain_command
from linear_eval.report.run_files import Run


def run(config: dict[str, Any], torch: str = "2") -> Run:
    return Run(
        path=Path("x"),
        config=config,
        lines=(),
        seconds=None,
        status={},
        environment={"versions": {"torch": torch}},
    )


def test_the_differences_come_first_that_may_change_the_result() -> None:
    one = {"run": {"log_every": 1, "directory": "/a"}, "seed": 0, "relation": {"name": "none"}}
    two = {"run": {"log_every": 2, "directory": "/b"}, "seed": 0}
    two["relation"] = {"name": "batchformer", "heads": 4}
    found = config_differences([run(one), run(two, torch="3")])
    assert [(each.key, each.values, each.is_shared) for each in found] == [
        ("relation.name", ("none", "batchformer"), True),
        ("relation.heads", ("-", "4"), False),
        ("run.log_every", ("1", "2"), True),
        ("environment.torch", ("2", "3"), True),
    ]
    assert [each.is_decisive for each in found] == [True, True, False, False]
    assert config_differences([run(one)]) == []


def test_places_are_words_in_the_command_and_left_out_in_the_config() -> None:
    config = {"data": {"root": "/secret/x"}, "run": {"directory": "runs/secret"}, "seed": 1}
    assert pretrain_command(run(config)) == (
        "ssl-bf pretrain config.yaml data.root=FOLDER run.directory=DIRECTORY"
    )
    assert "secret" not in config_text(config)
