"""The documents tell the truth: blocks, links, keys, files. Run: pytest tests/test_docs.py.

A fenced block says in the HTML comment above it how it came about; `docs/contributing.md` lists the
marks.
"""

import configparser
import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from linear_eval.backbones.architectures import build_backbone, feature_dim
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main as linear_eval_main
from linear_eval.evaluation.config import EvaluateConfig
from linear_eval.strict_config.types import list_item, section_classes
from ssl_bf.cli import main as ssl_bf_main
from ssl_bf.config import PretrainConfig
from ssl_bf.relations import RelationConfig
from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.study.study_file import StudyConfig
from tests.documents import (
    PAGES,
    ROOT,
    RUN_ELSEWHERE,
    Block,
    blocks,
    commands,
    matches,
    prose,
    quoted,
    shown,
)
from tests.test_architecture import ROOMS

MAX_WIDTH, MAX_WIDTH_OF_ROWS = 100, 160
PROGRAMS = {"ssl-bf": ssl_bf_main, "linear-eval": linear_eval_main}
MARKS = {
    "sh": {"run", "made by", "not run"},
    "bash": {"made by", "not run"},  # a script
    "python": {"run", "made by", "not run"},
    "yaml": {"made by", "not run"},
    "text": {"prints", "made by"},
}
WITH_BLOCKS = [page for page in PAGES if any(each.kind == "run" for each in blocks(page))]
TOPS = ("ssl_bf", "linear_eval", "docs", "tests", "bench", "configs")
SUFFIXES = {"safetensors", "json", "jsonl", "yaml", "npy", "bin", "png", "py", "md", "txt"}
on_every_page = pytest.mark.parametrize("page", PAGES, ids=shown)


def dotted_keys(config: type, path: str = "") -> Iterator[str]:
    """Every key that a config may have, whatever its sections are."""
    hints = typing.get_type_hints(config)
    for each in dataclasses.fields(config):
        yield f"{path}{each.name}"
        if list_item(hints[each.name]) is None:
            for member in section_classes(hints[each.name]):
                yield from dotted_keys(member, f"{path}{each.name}.")


KEYS = {key for each in (PretrainConfig, EvaluateConfig, StudyConfig) for key in dotted_keys(each)}
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(sorted(SECTIONS))})(?:\.[a-z_]\w*)+(?![\w/(])")


def named_keys(text: str) -> list[str]:
    """Dotted keys that a text names; `features.npy` is a file."""
    found = [match[0] for match in DOTTED.finditer(text)]
    return [key for key in found if key.rpartition(".")[2] not in SUFFIXES]


def test_the_readme_is_an_introduction_without_placeholders() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert "@" not in re.sub(r"recall@|mAP@", "", text)


@on_every_page
def test_every_block_says_how_it_came_about(page: Path) -> None:
    before = ""
    for block in blocks(page):
        if block.language == "python" and shown(page) in RUN_ELSEWHERE:
            continue
        where = f"{shown(page)}: line {block.line}"
        assert block.language in MARKS, f"{where}: unknown language '{block.language}'"
        assert block.kind in MARKS[block.language], f"{where}: no mark, or a wrong one"
        assert block.kind in ("run", "prints") or ":" in block.mark, f"{where}: say what or why"
        assert block.kind != "prints" or before == "run", f"{where}: the block above is not run"
        before = block.kind


@on_every_page
def test_commands_and_outputs_are_fenced(page: Path) -> None:
    lines = prose(page)
    for (number, line), (_, above) in zip(lines[1:], lines, strict=False):
        if line.startswith("    ") and not above.strip():
            pytest.fail(f"{shown(page)}: line {number}: an indented block; fence it")


@on_every_page
def test_no_line_is_too_long_to_read(page: Path) -> None:
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        is_prose = (number, line) in prose(page)
        is_row = line.startswith("|") or not is_prose  # what was printed may be long too
        limit = MAX_WIDTH_OF_ROWS if is_row else MAX_WIDTH
        assert len(line) <= limit, f"{shown(page)}: line {number} has {len(line)} characters"


@on_every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = "\n".join(line for _, line in prose(page))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@on_every_page
def test_every_file_and_folder_that_is_named_exists(page: Path) -> None:
    for text in quoted(page):
        name = text.partition(" ")[0]
        top = name.partition("/")[0]
        is_ours = top in TOPS and "/" in name and not re.search(r"[A-Z<*{]{3}|[<*{]", name)
        if is_ours or re.fullmatch(r"[A-Z]+\.(md|cff)", name):
            assert (ROOT / name).exists(), f"{shown(page)}: {name}"


@on_every_page
def test_every_key_that_is_named_exists(page: Path) -> None:
    texts = [*quoted(page), *(each.mark for each in blocks(page))]
    for block in blocks(page):  # in Python, a key is a text, and the rest are attributes
        is_python = block.language == "python"
        texts += re.findall(r'"([^"]*)"', block.text) if is_python else [block.text]
    for text in texts:
        unknown = [key for key in named_keys(text) if key not in KEYS]
        assert not unknown, f"{shown(page)}: {unknown}"


@on_every_page
def test_every_config_that_is_named_exists(page: Path) -> None:
    kinds = {
        ("ssl-bf", "pretrain"): "pretrain",
        ("linear-eval", "run"): "evaluate",
        ("ssl-bf", "ablate"): "study",
    }
    for words in commands(page):
        kind = kinds.get((words[0], words[1]))
        if kind and words[2] not in ("CONFIG", "STUDY", "study.yaml"):
            assert (ROOT / "configs" / kind / f"{words[2]}.yaml").is_file(), words[2]
    for text in quoted(page):
        if re.fullmatch(r"(moco_v2|moco_v3|simsiam)_[a-z0-9_]+[a-z0-9]", text):
            names = {path.stem for path in (ROOT / "configs" / "pretrain").glob("*.yaml")}
            assert text in names, f"{shown(page)}: {text}"


@on_every_page
def test_commands_take_the_options_that_are_named(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    marks = re.findall(r"^(\w+):", settings["tool:pytest"]["markers"], re.MULTILINE)
    targets = re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in commands(page):
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[0] in PROGRAMS and options:
            with pytest.raises(SystemExit):
                PROGRAMS[words[0]]([words[1], "--help"])
            assert options <= {*re.findall(r"--[\w-]+", capsys.readouterr().out)}, words
        elif words[0] == "make":
            assert set(words[1:]) <= {*targets}, words
        elif "pytest" in words:
            after = words[words.index("pytest") + 1 :]
            named = [word for word in after if "/" in word]
            assert all((ROOT / name).exists() for name in named), words
            assert "-m" not in after or after[after.index("-m") + 1] in marks, words


@pytest.mark.timeout(280)
@pytest.mark.parametrize("page", WITH_BLOCKS, ids=shown)
def test_what_a_page_runs_works_and_prints_what_it_says(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    printed: list[str] = []
    for block in blocks(page):
        if block.language == "python" and shown(page) in RUN_ELSEWHERE:
            continue
        if block.kind == "run":
            run(block)
            captured = capsys.readouterr()
            printed = f"{captured.out}\n{captured.err}".splitlines()
        elif block.kind == "prints":
            for line in filter(None, block.text.splitlines()):
                assert any(matches(line, each) for each in printed), (line, printed)


def lay_out(folder: Path) -> None:
    """The few images and the backbone that the documents speak of."""
    colour = 0
    for split, count in (("train", 8), ("val", 4)):
        for name in ("cat", "dog"):
            place = folder / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                colour += 1
                shade = (colour * 37 % 256, colour * 91 % 256, colour * 53 % 256)
                Image.new("RGB", (48, 40), shade).save(place / f"{number}.png")
    Image.new("RGB", (48, 40), (200, 180, 40)).save(folder / "beach.png")
    (folder / "runs" / "mine").mkdir(parents=True)
    half = (0.5, 0.5, 0.5)
    info = BackboneInfo("small_conv", feature_dim("small_conv"), 32, half, half)
    save_backbone(
        folder / "runs" / "mine" / "backbone.safetensors", build_backbone("small_conv"), info
    )


def run(block: Block) -> None:
    """Run a block: Python as it stands, of a shell our own two programs alone."""
    if block.language == "python":
        exec(compile(block.text, f"{shown(block.page)}:{block.line}", "exec"), {})
        return
    for program, *arguments in block.commands:
        assert program in PROGRAMS, f"{shown(block.page)}: {program} is not run by this test"
        assert PROGRAMS[program]([*arguments, *block.overrides]) == 0, arguments


def test_the_rooms_of_the_document_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    for package, order in ROOMS.items():
        table = text.split(f"| room of `{package}/` |")[1].split("\n\n")[0]
        rooms = re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE)
        assert rooms == [each for each in order if (ROOT / package / each).is_dir()]


def test_the_table_of_relation_keys_is_that_of_the_configs() -> None:
    text = (ROOT / "docs" / "batchformer.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.split("| key | type")[1].splitlines()[2:]]
    table = {row[0].strip("| `"): (row[2], row[3]) for row in rows if len(row) == 5}
    for config in typing.get_args(RelationConfig):
        name = config().name
        keys = {
            key
            for key, (_, of) in table.items()
            if of == "all" or (f"`{name}`" in of) != of.startswith("all but")
        }
        assert keys == {each.name for each in dataclasses.fields(config)}, name
    for each in dataclasses.fields(BatchFormerConfig):
        default = "null" if each.default is None else str(each.default)
        expected = "none" if each.name == "name" else default
        assert table[each.name][0].strip("`") == expected, each.name


def test_the_citation_names_what_the_format_asks_for() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= found.keys()
    for entry in found["references"]:
        assert {"type", "title", "authors"} <= entry.keys()
        number = entry["identifiers"][0]["value"].removeprefix("arXiv:")
        assert re.fullmatch(r"\d{4}\.\d{5}", number)
        assert entry["url"].endswith(number)


def test_the_changelog_has_the_form_that_it_names() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased\n" in text
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_the_note_for_contributors_is_short_and_points_on() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    assert "docs/contributing.md" in text


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("relation.contxt=8", ["relation.contxt"]),
        ("set knn.k and data.rot", ["data.rot"]),
        ("features.npy, backbone.safetensors, speed.*, linear_eval.knn", []),
        ("optimizer.base_learning_rate=1; method.after_step(progress)", []),
    ],
)
def test_the_check_finds_keys_that_do_not_exist(text: str, unknown: list[str]) -> None:
    assert [key for key in named_keys(text) if key not in KEYS] == unknown


def test_the_check_reads_marks_and_blocks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- run with: a=1\n     b=2 -->\n```sh\nx \\\n  y  # z\n```\n`q`\n", "utf-8"
    )
    (block,) = blocks(page)
    assert (block.kind, block.overrides, block.commands) == ("run", ["a=1", "b=2"], [["x", "y"]])
    assert quoted(page) == ["q"]
    assert matches("a * (x)", "a   12 b (x)")
    assert not matches("a * (x)", "a 12 (y)")
