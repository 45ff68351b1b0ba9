"""What is wrong with the words of a command is said before torch is loaded."""

import dataclasses
import subprocess
import sys
import typing
from typing import Any

import pytest

from linear_eval.strict_config.from_source import defined
from linear_eval.strict_config.types import describe, list_item, section_classes
from ssl_bf.config import PretrainConfig
from ssl_bf.pixels.source import FolderConfig
from ssl_bf.study.study_file import StudyConfig

WHOLE = (PretrainConfig, StudyConfig, FolderConfig)


def told(config_class: type) -> list[Any]:
    """All that the reader asks of a config class, its sections included."""
    hints = typing.get_type_hints(config_class)
    lines: list[Any] = [config_class.__name__]
    for field in dataclasses.fields(config_class):
        hint = hints[field.name]
        item = list_item(hint)
        sections = section_classes(hint) or section_classes(item)
        says = "sections" if item is not None and sections else describe(hint)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = repr(field.default_factory())
        lines.append((field.name, field.init, field.kw_only, says, default, dict(field.metadata)))
        lines += [told(each) for each in sections]
    return lines


@pytest.mark.parametrize("config_class", WHOLE, ids=lambda each: each.__name__)
def test_the_source_says_the_same_as_the_class(config_class: type) -> None:
    from_source = defined(config_class.__module__, config_class.__name__)

    assert from_source is not config_class
    assert told(from_source) == told(config_class)


CALL = """
import sys
from linear_eval.system.entry import run
package, sys.argv = sys.argv[1], sys.argv[1:]
code = run(f"{package}.cli")
torch = sys.modules.get("torch")
assert torch is None or type(torch).__name__ == "_LateModule", "torch was loaded"
sys.exit(code)
"""

WRONG = {
    "ssl_bf pretrain quickstart optimizer.lr=1": "optimizer.lr: no such key",
    "ssl_bf pretrain quickstart method.name=mocov3": "method.name: 'mocov3' is not one of",
    "ssl_bf pretrain quickstart epochs=many": "epochs: expected a whole number",
    "ssl_bf pretrain quickstrat": "Did you mean 'quickstart'?",
    "ssl_bf pretrain quickstart --explain seeed": "seeed: no such key",
    "ssl_bf doctor quickstart sed=1": "sed: no such key",
    "ssl_bf doctor quickstart --explain seeed": "seeed: no such key",
    "ssl_bf verify-resume quickstart sed=1": "sed: no such key",
    "ssl_bf pack quickstart store data.rot=1": "data.rot: no such key",
    "ssl_bf pack . store data.rot=1": "data.rot: no such key",
    "ssl_bf ablate quickstart sed=1": "sed: no such key",
    "ssl_bf ablate quickstart optimizer.lr=1": "arms: none: optimizer.lr: no such key",
    "ssl_bf ablate quickstart --status optimizer.lr=1": "arms: none: optimizer.lr: no such key",
    "ssl_bf resume nothing": "nothing: no such directory",
    "ssl_bf resume . method.name=simsiam": "method.name: cannot change while a run goes on",
    "ssl_bf export nothing": "nothing: no such directory",
    "ssl_bf relations nothing": "nothing: no such directory",
    "ssl_bf replay nothing": "nothing: no such file",
    "ssl_bf worth nothing": "nothing is no folder",
    "linear_eval run quickstart knnn=1": "knnn: no such key",
    "linear_eval query nothing image": "nothing: no such folder",
    "linear_eval report nothing": "nothing: no such file or folder",
    "linear_eval compare nothing nowhere": "nothing: no such file",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_word_needs_no_torch(line: str, tmp_path: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *line.split()], capture_output=True, text=True, cwd=tmp_path
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert WRONG[line] in done.stderr
    assert not list(tmp_path.iterdir())


def test_doctor_explains_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    from ssl_bf.cli import main

    assert main(["doctor", "quickstart", "--explain", "seed"]) == 0
    assert capsys.readouterr().out.startswith("seed\n")
