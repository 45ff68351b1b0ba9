from pathlib import Path

import pytest

from ssl_bf.cli import main

CONFIGS = Path(__file__).parents[3] / "configs"
COMMANDS = {
    "pretrain": "ssl-bf pretrain",
    "evaluate": "linear-eval run",
    "study": "ssl-bf ablate",
}


def test_every_packaged_config_is_listed_with_the_first_line_of_its_header(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for path in CONFIGS.glob("*/*.yaml"):
        says = path.read_text().partition("\n")[0].removeprefix("# ")
        [line] = [each for each in lines if each.split()[0] == path.stem and each.endswith(says)]
        above = [each for each in lines[: lines.index(line)] if each.endswith(" NAME")]
        assert above[-1] == f"{COMMANDS[path.parent.name]} NAME"


def test_a_key_is_explained_with_its_value_in_the_config(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["pretrain", "quickstart", "epochs=7", "--explain", "epochs"]
    assert main(given) == 0
    assert capsys.readouterr().out.startswith("epochs\n  here: 7\n  a whole number (must be >= 1)")
    assert main(["pretrain", "quickstart", "--explain", "epoch"]) == 2
    assert "Did you mean 'epochs'?" in capsys.readouterr().err
