"""Every relation trains the quickstart's network and is gone from the file; bad input is a line."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import load_backbone
from ssl_bf.cli import main
from ssl_bf.relations import RelationConfig
from ssl_bf.run.checkpoint import load_newest
from tests.unions import members_of

Tiny = Callable[[str, str], list[str]]
GROUPED = {
    name
    for name, member in members_of(RelationConfig).items()
    if any(field.name == "context" for field in fields(member))
}
# The quickstart has a relation: its keys that another one lacks are left out.
EVERY = {
    name: [f"relation.name={name}", *(["relation.context=8"] if name in GROUPED else [])]
    for name in members_of(RelationConfig)
}
EVERY["nearest_keys"].append("relation.pairs=plain_queries")


def few(tiny: Tiny, *more: str) -> list[str]:
    """Arguments of a run of 3 batches of 16 images."""
    small = ["data.train_images=64", "batch_size=16", "epochs=1", "run.directory=run"]
    return ["pretrain", "quickstart", *tiny("moco_v2", "none"), *small, *more]


@pytest.mark.parametrize("relation", EVERY)
def test_it_trains_an_epoch_and_leaves_the_same_backbone(
    relation: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(few(tiny, *EVERY[relation])) == 0
    tensors = load_newest(Path("run")).tensors
    prefix = "method/backbone."
    inside = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)}
    network, _ = load_backbone(Path("run/backbone.safetensors"))
    assert set(network.state_dict()) == inside == set(build_backbone("small_conv").state_dict())
    assert not any("relat" in name for name in inside)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["name=batchformer", "heads=3"], "relation.heads: 3 heads do not divide the width 32"),
        (["name=batchformer", "context=5"], "relation.context: groups of 5 do not divide the 16"),
        (["name=batchformer", "active=[0.8, 0.2]"], "relation.active: must be [start, end]"),
        (["name=copy", "active=[0.1, 0.2]"], "relation.active: [0.1, 0.2] holds none of the 3"),
        (["name=bgformer", "context=8", "top_k=9"], "relation.top_k: 9 is above the 8 rows"),
        (["name=bgformer", "clusters=9"], "relation.clusters: does nothing with graph=none"),
        (["name=foreign", "context=neighbours"], "relation.context: "),
        (["name=batchformer", "neighbours=4"], "relation.neighbours: does nothing with context=32"),
        (
            ["name=batchformer", "context=neighbours", "memory=8"],
            "relation.neighbours: must be at most memory (8), got 16",
        ),
        (
            ["name=nearest_keys", "pairs=plain_queries", "memory=8"],
            "relation.memory: 8 rows do not hold the 16",
        ),
        (["name=nearest_keys", "pairs=all"], "relation.pairs: nearest_keys has no related"),
        (["name=batchformer", "residual=gate", "parameters=frozen"], "relation.residual: with"),
    ],
)
def test_bad_input_is_one_clear_line(
    keys: list[str],
    message: str,
    tiny: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(few(tiny, *(f"relation.{key}" for key in keys))) == 2
    [*_, last] = capsys.readouterr().err.splitlines()
    assert message in last
    assert not Path("run").exists()


def test_another_batch_is_needed_for_foreign(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [*EVERY["foreign"], "batch_size=48", "method.queue_size=96"]
    assert main(few(tiny, *more)) == 2
    assert "relation.name: foreign needs another batch" in capsys.readouterr().err
    assert not Path("run").exists()
