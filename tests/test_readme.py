"""The README tells the truth about files, configs and keys."""

import re
from dataclasses import fields
from pathlib import Path

from ssl_bf.relations.batchformer import BatchFormerConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_readme_is_short_and_holds_no_placeholder() -> None:
    assert len(README.splitlines()) <= 200
    assert "@" not in re.sub(r"recall@|mAP@", "", README)


def test_every_file_and_folder_of_the_tree_exists() -> None:
    folder = ROOT
    names = 0
    for line in section("The tree").split("\n\nFive")[0].splitlines():
        words = re.findall(r"[\w./]+(?:\.py|/)(?=[\s:,]|$)", line)
        if line.startswith("    ") and not line.startswith("     ") and words:
            folder = ROOT / words[0]
            inside = words[1:] if words[0] == "configs/" else []
        else:
            inside = words
        for name in inside:
            names += 1
            assert (folder / name).exists(), f"{folder.name}/{name}"
    assert names > 20


def test_every_config_that_a_command_names_exists() -> None:
    commands = re.findall(r"(ssl-bf pretrain|linear-eval run) (\w+)", README)
    assert len(commands) >= 3
    for command, name in commands:
        kind = "pretrain" if "pretrain" in command else "evaluate"
        assert (ROOT / "configs" / kind / f"{name}.yaml").is_file(), name


def test_the_relation_table_names_every_key() -> None:
    named = set(re.findall(r"\w+", section("BatchFormer here")))
    assert {field.name for field in fields(BatchFormerConfig)} <= named
