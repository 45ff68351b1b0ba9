"""Two processes judge a backbone together: the same numbers as one, and one end for all."""

import contextlib
import io
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main

pytestmark = pytest.mark.dist

WORLD = 2
JUDGE = [
    "image_folder",
    "data.root=images",
    "data.holdout=0",
    "data.on_bad_image=skip",
    "data.max_bad=1",
    "images.resize=16",
    "images.crop=16",
    "batch_size=3",
    "evaluators=[knn, linear_probe, retrieval]",
    "augmented_passes=1",
    "knn.k=[1, 5]",
    "linear_probe.epochs=2",
    "linear_probe.learning_rates=[0.1]",
    "retrieval.recall_at=[1, 5]",
    "speed.device=cpu",
]
JUDGED = "backbone=b.safetensors"
RUNS = {  # name -> overrides; each is run by both processes
    "kept": [JUDGED, "baselines=[random]", "features.folder=kept", "protocols=[ours, solo]"],
    "in_memory": [JUDGED, "features.folder=none"],
    "refused_by_one": [JUDGED, "data.on_bad_image=error", "features.folder=none"],
    "refused_in_a_folder": [JUDGED, "data.on_bad_image=error"],
    "refused_by_all": [JUDGED, "knn.k=[500]"],
    "unequal": [JUDGED, "data.root=unequal", "images.resize=null", "images.crop=null"],
}
Answer = tuple[int, str, str]
"""Exit code, stdout, stderr."""


def run(name: str, place: Path) -> Answer:
    """The command, in this process."""
    out, err = io.StringIO(), io.StringIO()
    (place / name).mkdir()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["run", *JUDGE, *RUNS[name], f"output={place / name}"])
        except SystemExit as leaving:
            assert isinstance(leaving.code, int)
            code = leaving.code
    return code, out.getvalue(), err.getvalue()


def work(rank: int, ports: list[int], folder: str) -> None:
    """What one of the two processes does."""
    torch.set_num_threads(1)
    os.chdir(folder)
    answers = {}
    for name, port in zip(RUNS, ports, strict=True):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        place = Path(folder) / f"process_{rank}"
        place.mkdir(exist_ok=True)
        answers[name] = run(name, place)
    Path(folder, f"answers_{rank}.json").write_text(json.dumps(answers))


def make_images(root: Path, count: int, *, wide: tuple[int, ...] = ()) -> None:
    """Three classes that differ a little in brightness; rows `wide` of train are wider."""
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "val"):
        for number, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                width = 20 + (split == "train" and count * number + i in wide)
                noise = torch.randint(0, 200, (18, width, 3), generator=generator) + 20 * number
                pixels = noise.to(torch.uint8).numpy()
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")


def make_backbone(path: Path) -> None:
    torch.manual_seed(0)
    backbone = build_backbone("small_conv")
    backbone(torch.randn(64, 3, 16, 16))
    info = BackboneInfo("small_conv", 128, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), {})
    save_backbone(path, backbone, info)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both processes did all runs."""
    folder = tmp_path_factory.mktemp("together")
    make_images(folder / "images", 9)
    for i in (3, 4, 5):  # a whole batch, that of the second process
        (folder / "images" / "train" / "a" / f"{i}.png").write_bytes(b"broken")
    make_images(folder / "unequal", 2, wide=(3, 4, 5))
    make_backbone(folder / "b.safetensors")
    sockets = [socket.socket() for _ in RUNS]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    spawn(work, args=(ports, str(folder)), nprocs=WORLD)
    return folder


@pytest.fixture
def answers(place: Path) -> list[dict[str, Answer]]:
    """Of each process, by the name of the run."""
    found = [json.loads((place / f"answers_{rank}.json").read_text()) for rank in range(WORLD)]
    return [{name: (code, out, err) for name, (code, out, err) in each.items()} for each in found]


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "results.json").read_text())
    del found["seconds"], found["digest"]  # which is over the seconds, too
    return found


@pytest.mark.parametrize("name", ["kept", "in_memory"])
def test_two_processes_find_the_numbers_of_one(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setitem(RUNS, name, [*RUNS[name], f"features.folder={tmp_path / 'one'}"])
    code, _, err = run(name, tmp_path)
    assert code == 0, err
    one, two = tmp_path / name, place / "process_0" / name
    settings = [results(folder) for folder in (one, two)]
    assert settings[0] == settings[1]
    assert set(settings[0]["metrics"]) > {"knn/k=5/top1", "linear_probe/top1", "retrieval/map"}
    answers = [load_file(f / "results.per_image.safetensors") for f in (one, two)]
    assert answers[0].keys() == answers[1].keys()
    for key, values in answers[0].items():
        assert torch.equal(values, answers[1][key]), key


def test_the_features_that_two_processes_keep_are_those_of_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setitem(RUNS, "kept", [*RUNS["kept"], f"features.folder={tmp_path / 'one'}"])
    assert run("kept", tmp_path)[0] == 0

    def content(store: Path) -> dict[Path, bytes]:
        files = [path for path in store.rglob("*") if path.is_file()]
        return {path.relative_to(store): path.read_bytes() for path in files}

    assert content(place / "kept") == content(tmp_path / "one")


def test_only_the_main_process_talks_and_writes(
    place: Path, answers: list[dict[str, Answer]]
) -> None:
    for name in ("kept", "in_memory"):
        (code, out, _), silent = (each[name] for each in answers)
        assert code == 0
        assert "written: " in out
        assert out.count("3 train images could not be read") == 1
        assert silent == (0, "", "")
        assert not list((place / "process_1" / name).iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refused_by_one", "error: .*a/3.png"),
        ("refused_in_a_folder", "error: .*a/3.png"),
        ("refused_by_all", "error: knn.k: 500"),
        ("unequal", "error: images: 'a/0.png' has 20 x 18 pixels but 'b/1.png' has 21 x 18"),
    ],
)
def test_what_one_process_refuses_ends_both_with_one_line(
    name: str, message: str, place: Path, answers: list[dict[str, Answer]]
) -> None:
    (code, out, err), silent = (each[name] for each in answers)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"{message}.*\n", err), err
    assert silent == (2, "", "")
    assert not list((place / "process_0" / name).iterdir())
