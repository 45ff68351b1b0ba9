"""Names that write elsewhere on a terminal or in a page: in results, studies, runs, checkpoints."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import yaml

from linear_eval.backbones.architectures import build_backbone
from linear_eval.cli import main as linear_eval
from linear_eval.results.seal import DIGEST, sealed
from tests.torture.mutants import json_mutant

_EVIL = (
    *("\x1b[2J\x1b[H", "\x1b]0;owned\x07", "\r ok", "a\nnote: all is well", "\x9b31m", "\x08\x08"),
    *("<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "<style>*{display:none}"),
    *("{{ 7*7 }}", "{% raw %}", "javascript:alert(1)", "</title><script>", "\u202egnp.exe"),
    *("]]><script>", "&lt;script&gt;", "\u2028<script>", "a|b|c", "\\input{/etc/passwd}", "$\\x$"),
    *("=cmd|' /C calc'!A0", "@SUM(1)", "![x](http://evil/x)", "[x](javascript:alert(1))", "`x`"),
)
_CONVERT = ("convert", "c.safetensors", "--architecture", "small_conv")
_TAGS = re.compile(r"<(?:script>alert|img src=x|style>\*)|</title><script|<script>(?!\n)", re.ASCII)
_IN_MARKDOWN = re.compile(r"(?<!\\)!?(?<!\\)\[x\]\(|<script|<img", re.ASCII)


def made(folder: Path) -> Path:
    """Real results, with the answers beside, and what is changed in copies of them."""
    words = ["run", "quickstart", "backbone=pixels", "data.train_images=60", "data.test_images=20"]
    words += ["evaluators=[knn]", "knn.k=[1]", "features.folder=none", "speed.device=cpu"]
    words += [f"output={folder / 'results.json'}"]
    assert linear_eval(words) == 0
    return folder / "results.json"


def poisoned(value: Any, chance: random.Random) -> Any:
    """JSON of which one text or key, anywhere in it, holds a name that writes elsewhere."""
    evil = chance.choice(_EVIL)
    if isinstance(value, dict) and value:
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {(f"{each}{evil}" if each == key else each): value[each] for each in value}
        return {**value, key: poisoned(value[key], chance)}
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        return [*value[:at], poisoned(value[at], chance), *value[at + 1 :]]
    where = chance.choice((f"{value}{evil}", f"{evil}{value}", evil))
    return where if isinstance(value, str) else value


def ran(chance: random.Random, results: Path, study: Any, worth: Any) -> list[str]:
    """What a hostile name did that it should not; works in the present folder."""
    change = poisoned if chance.random() < 0.8 else json_mutant
    kind = chance.choice("results results results study worth run checkpoint".split())
    _write(kind, change, chance, results, study, worth)
    tables = chance.choice((".md", ".tex", ".csv"))
    page = ["--output", "o.html", "--no-images"]
    words: Sequence[str] = {
        "results": chance.choice(
            (
                ["compare", "r.json", str(results)],
                ["compare", "r.json", str(results), "--json", "c.json"],
                ["report", "r.json", *page, "--tables", f"t{tables}"],
            )
        ),
        "study": ["report", "study.json", *page, "--tables", f"t{tables}"],
        "worth": ["report", "worth.json", *page],
        "run": ["report", "run", *page],
        "checkpoint": [*_CONVERT, "--output", "b.safetensors"],
    }[kind]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = linear_eval(list(words))
    return _wrong(kind, words, code, said.getvalue())


def _write(
    kind: str, change: Any, chance: random.Random, results: Path, study: Any, worth: Any
) -> None:
    if kind == "results":
        found = json.loads(results.read_text())
        found.pop(DIGEST, None)
        Path("r.json").write_text(json.dumps(sealed(change(found, chance))))
        answers = found["per_image"]["file"]
        Path(answers).write_bytes(results.with_name(answers).read_bytes())
    elif kind in ("study", "worth"):
        value = change(copy.deepcopy(study if kind == "study" else worth), chance)
        Path(f"{kind}.json").write_text(json.dumps(value))
    elif kind == "run":
        Path("run").mkdir()
        config = {"method": {"name": "moco_v2"}, "relation": {"name": "none"}, "seed": 0}
        line = {"step": 1, "epoch": 1.0, "loss": 1.0, "learning_rate": 1.0, "knn": 3.0}
        files = {
            "environment.json": {"versions": {"torch": "2"}, "cpu": {"model": "a"}, "gpus": []},
            "status.json": {"state": "finished", "step": 1, "total_steps": 1},
            "metrics.jsonl": {**line, "timing": {"seconds": 1.0}},
        }
        chosen = chance.choice((*files, "config.yaml"))
        for name, value in files.items():
            value = change(value, chance) if name == chosen else value
            Path("run", name).write_text(json.dumps(value) + "\n")
        config = change(config, chance) if chosen == "config.yaml" else config
        Path("run/config.yaml").write_text(yaml.safe_dump(config))
    else:
        start = chance.choice(("", "module.", "state_dict."))
        state = build_backbone("small_conv").state_dict()
        tensors = {f"{start}{name}": value.clone() for name, value in state.items()}
        evil = chance.choice(_EVIL)
        if chance.random() < 0.5:
            tensors = {f"{evil}.{name}": value for name, value in tensors.items()}
        else:
            tensors[f"{start}fc{evil}.weight"] = next(iter(state.values())).clone()
        safetensors.torch.save_file(tensors, "c.safetensors")


def _wrong(kind: str, words: Sequence[str], code: int, said: str) -> list[str]:
    bad = []
    strange = {char for char in said if not char.isprintable() and char != "\n"}
    if strange or "\nnote: all is well" in said:
        bad.append(f"{kind}: prints {sorted(strange) or 'a line of its own'}")
    if code not in (0, 2):
        bad.append(f"{kind}: exit code {code}")
    if code == 2 and len(said.splitlines()) != 1:
        bad.append(f"{kind}: {len(said.splitlines())} lines of error")
    for file in (Path("o.html"), Path("t.md"), Path("t.tex"), Path("t.csv"), Path("c.json")):
        text = file.read_text() if file.exists() else ""
        raw = {char for char in text if not char.isprintable() and char not in "\n\t\u2028"}
        if raw:
            bad.append(f"{kind}: {file.name} holds {sorted(raw)}")
        if file.suffix == ".html" and (found := _TAGS.search(text)):
            bad.append(f"{kind}: {file.name} holds {found[0]!r}")
        if file.suffix == ".md" and (found := _IN_MARKDOWN.search(text)):
            bad.append(f"{kind}: {file.name} holds {found[0]!r}")
        if file.suffix == ".tex" and re.search(r"\\input\{", text):
            bad.append(f"{kind}: {file.name} holds \\input")
        if file.suffix == ".csv" and re.search(r'(?:^|,)"?[=@]', text, re.MULTILINE):
            bad.append(f"{kind}: {file.name} holds a formula")
    return [f"{each} ({' '.join(words[:2])})" for each in bad]
