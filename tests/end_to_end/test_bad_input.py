"""Wrong input, through the real commands: exit code 2, one line that helps, nothing left behind.

Every case runs in one folder that must look the same afterwards, file by file.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from PIL import Image

from linear_eval.backbones.architectures import build_backbone
from linear_eval.backbones.backbone_file import save_backbone
from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.cli import main as linear_eval
from ssl_bf.cli import main as ssl_bf

# A run and an evaluation of a second; what a case says wins over these files.
PRETRAIN: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64},
    "views": {"recipe": "moco_v2", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "moco_v2", "projection_dim": 16, "hidden_dim": 16, "queue_size": 64},
    "relation": {"name": "batchformer", "context": 8},
    "optimizer": {"name": "adamw", "warmup_epochs": 0},
    "epochs": 2,
    "batch_size": 16,
    "speed": {"device": "cpu"},
    "run": {"directory": "new", "tensorboard": False, "save_every": "1epoch"},
}
JUDGE: dict[str, Any] = {
    "data": {"name": "textures", "train_images": 64, "test_images": 20},
    "backbone": "good.safetensors",
    "linear_probe": {"epochs": 1},
    "speed": {"device": "cpu"},
}
PIXELS = 12
LONG = "x" * 250  # the name of a file that no one may make, not even the administrator


class Case(NamedTuple):
    """A command, and what its line must say: the thing, what was expected, what to do."""

    name: str
    command: str
    arguments: list[str]
    says: list[str]


def pretrain(name: str, given: str, *says: str) -> Case:
    return Case(name, "pretrain", ["pretrain.yaml", *given.split()], [*says])


def judge(name: str, given: str, *says: str) -> Case:
    return Case(name, "run", ["judge.yaml", *given.split()], [*says])


def command(name: str, given: str, *says: str) -> Case:
    first, *rest = given.split()
    return Case(name, first, rest, [*says])


CASES = [
    # Keys, types and values of the config.
    pretrain("unknown key", "method.queue_szie=64", "method.queue_szie: ", "'queue_size'"),
    pretrain("unknown section", "optimiser.name=sgd", "optimiser: ", "'optimizer'"),
    pretrain("unknown member", "method.name=moco_v4", "method.name: ", "'moco_v3'"),
    pretrain("no override", "epochs", "epochs: not an override, expected key=value"),
    pretrain("word for a number", "epochs=three", "epochs: expected ", "'three'"),
    pretrain("part for a whole", "batch_size=16.5", "batch_size: expected ", "16.5"),
    pretrain("list too short", "views.mean=[0.5,0.5]", "views.mean: expected "),
    pretrain("no yes or no", "run.overwrite=perhaps", "run.overwrite: expected "),
    pretrain("all at once", "epochs=0 seed=-1", "epochs: must be >= 1", "seed: must be >= 0"),
    pretrain("no epoch", "epochs=0", "epochs: must be >= 1, got 0"),
    pretrain("all dropped out", "relation.dropout=1", "relation.dropout: must lie in [0, 1)"),
    pretrain("no temperature", "method.temperature=0", "method.temperature: must be > 0"),
    pretrain("all held out", "data.holdout=0.9", "data.holdout: must be between 0 and 0.5"),
    pretrain(
        "warm-up too long",
        "optimizer.warmup_epochs=2",
        *("optimizer.warmup_epochs: is 2", "less than the 2 epochs", "lower it"),
    ),
    pretrain(
        "queue not divisible",
        "method.queue_size=100",
        *("method.queue_size: 100 is not divisible by the 16 keys", "try 96"),
    ),
    pretrain("batch of one", "batch_size=1", "batch_size: must be >= 2", "got 1"),
    pretrain(
        "heads that do not divide",
        "relation.heads=3",
        *("relation.heads: 3 heads do not divide the width 16", "choose a divisor"),
    ),
    pretrain(
        "context that does not divide",
        "relation.context=6",
        *("relation.context: groups of 6 do not divide the 16 images", "choose a divisor"),
    ),
    pretrain(
        "groups that do not divide",
        "method.batch_norm=groups:3",
        *("method.batch_norm: groups:3 does not cut the 16 images", "choose another number"),
    ),
    pretrain(
        "fewer images than the batch",
        "batch_size=256 method.queue_size=512",
        *("batch_size: 256 is more than the 54 training images", "lower batch_size or add images"),
    ),
    command("no such config", "pretrain quikstart", "quikstart: no such config", "'quickstart'"),
    command("damaged config", "pretrain damaged.yaml", "damaged.yaml:2", "not valid YAML"),
    command("config is a folder", "pretrain images", "images: is a folder, expected a YAML file"),
    judge("unknown key", "knn.temprature=1", "knn.temprature: ", "'temperature'"),
    judge("unknown member", "data.name=cifar", "data.name: ", "'cifar10'"),
    judge("wrong type", "knn.k=many", "knn.k: expected "),
    judge("impossible value", "knn.k=[0]", "knn.k: must be distinct numbers >= 1"),
    judge(
        "k larger than the gallery",
        "knn.k=[1,65]",
        *("knn.k: 65 neighbours out of a gallery of 64 train images; lower knn.k\n",),
    ),
    judge(
        "k larger than what is left of the gallery",
        "knn.k=[1,41] data.max_images=40",
        *("knn.k: 41 neighbours out of a gallery of 40", "lower knn.k or raise data.max_images\n"),
    ),
    command(
        "no backbone",
        "run cifar10",
        "backbone: missing, expected a backbone file, timm:NAME, pixels or random; give it",
    ),
    command("a folder asked for", "query index images", "images: is a folder, expected an image"),
    command("pretraining config", "run pretrain.yaml", "is a pretraining config, expected an eval"),
    command("evaluation config", "pretrain judge.yaml", "is an evaluation config", "`linear-eval"),
    judge(
        "no hold-out to choose on",
        "data.holdout=0 data.train_images=500 data.max_images=500",
        *("data.holdout: 0 leaves no images", "set data.holdout=0.1"),
    ),
    judge("nowhere to write", "output=missing/r.json", "output: missing: no such folder", "create"),
    # Places to write to: found out before anything is read or computed.
    judge("results", f"output=images/{LONG}.json", "output: images/x", "cannot be written"),
    pretrain("directory cannot be made", f"run.directory={LONG}/new", "run.directory: "),
    pretrain("directory below a file", "run.directory=one.txt/new", "run.directory: "),
    command("features", f"extract good.safetensors images --output {LONG}.npy", "--output: x"),
    command(
        "features",
        "extract good.safetensors no --output images.npy/f.npy",
        "no such folder; create it",
    ),
    command("numbers", f"quality good.safetensors images --json {LONG}.json", "--json: x"),
    command("numbers", "quality good.safetensors images --json images", "images is a folder"),
    command("index", f"index good.safetensors images --output {LONG}", "--output: x"),
    command("backbone", f"convert zip.pt --architecture small_conv --output {LONG}", "--output: x"),
    command("exported", f"export run --format onnx --output {LONG}", "--output: x"),
    command("comparison", f"compare no no --json {LONG}", "--json: x"),
    # Data.
    pretrain(
        "missing data",
        "data.name=image_folder data.root=missing",
        *("data.root: 'missing' is not a folder, expected one that exists", "set data.root=FOLDER"),
    ),
    pretrain(
        "empty folder",
        "data.name=image_folder data.root=empty",
        *(
            "empty: holds no images, expected files ending in",
            "set data.root to a folder of images",
        ),
    ),
    pretrain(
        "empty class folder",
        "data.name=image_folder data.root=hollow",
        *("hollow/train: has no image in 1 class folder(s) (dog)", "correct the folder"),
    ),
    pretrain(
        "missing train split",
        "data.name=image_folder data.root=only_val",
        *("only_val: has val but no train, expected root/train", "add root/train"),
    ),
    judge(
        "missing test split",
        "data.name=image_folder data.root=only_train",
        *("only_train: neither val nor test is in it", "add the missing split"),
    ),
    judge(
        "empty test split",
        "data.name=image_folder data.root=empty_val",
        *(
            "empty_val/val: holds no class folders, expected one folder per class",
            "check data.root",
        ),
    ),
    pretrain(
        "subset class not in the folder",
        "data.name=imagenet_subset data.root=imagenet data.subset=subset.txt",
        *("imagenet/train: lacks 1 of the 2 classes of data.subset=subset.txt (n00000002)",),
        *("expected a folder for each", "complete the folder, or set another data.subset"),
    ),
    judge(
        "subset class not in the test split",
        "data.name=imagenet_subset data.root=imagenet data.subset=one.txt",
        *("imagenet/val: lacks 1 of the 1 classes of data.subset=one.txt (n00000001)", "complete"),
    ),
    pretrain(
        "subset that is no list",
        "data.name=imagenet_subset data.root=imagenet data.subset=damaged.yaml",
        *("data.subset: 'damaged.yaml' has", "expected a WNID", "correct the list"),
    ),
    pretrain(
        "corrupt image",
        "data.name=image_folder data.root=corrupt data.on_bad_image=error",
        *("corrupt/train/cat/3.png: ", "expected"),
    ),
    judge(
        "corrupt image",
        "data.name=image_folder data.root=corrupt data.on_bad_image=error knn.k=[1]",
        *("corrupt/train/cat/3.png: ", "expected"),
    ),
    judge(
        "features among the images",
        "data.name=image_folder data.root=images knn.k=[1] features.folder=images/val/kept",
        *("features.folder: images/val/kept lies among the images in", "choose a place outside"),
    ),
    pretrain(
        "run among the images",
        "data.name=image_folder data.root=images run.directory=images/train/run",
        *("run.directory: images/train/run lies among the images in", "choose a place outside"),
    ),
    # Files with weights.
    pretrain(
        "backbone of another architecture",
        "backbone.init=resnet18.safetensors",
        *("backbone.init: resnet18.safetensors holds a resnet18, the run trains a small_conv",),
        "set backbone.name",
    ),
    pretrain("missing backbone", "backbone.init=no.safetensors", "no.safetensors: no such file"),
    pretrain("pickled backbone", "backbone.init=pickle.pt", "pickle.pt: ", "expected"),
    pretrain("zipped pickle", "backbone.init=zip.pt", "zip.pt: holds a pickle"),
    pretrain(
        "truncated backbone",
        "backbone.init=truncated.safetensors",
        *("truncated.safetensors: is truncated or damaged, expected a whole backbone file", "copy"),
    ),
    judge("missing backbone", "backbone=no.safetensors", "no.safetensors: no such file, expected"),
    judge("pickled backbone", "backbone=pickle.pt", "pickle.pt: holds a pickle", "eval convert"),
    judge("zipped pickle", "backbone=zip.pt", "zip.pt: holds a pickle"),
    judge("truncated backbone", "backbone=truncated.safetensors", "is truncated", "copy or export"),
    judge(
        "tensors of another architecture",
        "backbone=mislabelled.safetensors",
        *("mislabelled.safetensors: its tensors are not those of 'small_conv'", "export the"),
    ),
    # Run directories.
    command("resume without a run", "resume missing", "missing: no such directory", "give the dir"),
    command("export without a run", "export missing --output o", "missing: no such directory"),
    pretrain(
        "an existing run",
        "run.directory=run",
        *("run.directory: run already holds a run", "`ssl-bf resume run`", "run.overwrite=true"),
    ),
    pretrain("directory is a file", "run.directory=one.txt", "run.directory: one.txt is a file"),
    command(
        "checkpoint of another architecture",
        "resume run_resnet18",
        *(
            "run_resnet18: its config.yaml says backbone.name=resnet18, but it",
            "put that back",
        ),
    ),
    command(
        "export of another architecture",
        "export run_resnet18 --output new",
        *("run_resnet18: its newest checkpoint holds no resnet18", "put back the config.yaml"),
    ),
    command(
        "checkpoint of another method",
        "resume run_moco_v3",
        *("run_moco_v3: its config.yaml says method.name=moco_v3, but it", "put that back"),
    ),
    command(
        "run without checkpoints",
        "resume run_without",
        *("run_without: holds no checkpoint, expected", "start again"),
    ),
    command(
        "truncated checkpoint",
        "resume run_truncated",
        *("run_truncated: no checkpoint is sound, expected", "tensors.safetensors does not match"),
        "start again with run.overwrite=true",
    ),
    command(
        "pickle instead of a checkpoint",
        "resume run_pickle",
        *("run_pickle: no checkpoint is sound", "tensors.safetensors does not match"),
    ),
    command(
        "export of a truncated checkpoint",
        "export run_truncated --output new",
        "run_truncated: no checkpoint is sound",
    ),
    command("truncated config", "resume run_config", "run_config/config.yaml:", "not valid YAML"),
]


def write_images(root: Path, folders: dict[str, int]) -> None:
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            colour = (number * 11 % 256, len(folder) * 9 % 256, 90)
            Image.new("RGB", (PIXELS, PIXELS), colour).save(root / folder / f"{number}.png")


def write_data() -> None:
    write_images(Path("images"), {"train/cat": 12, "train/dog": 12, "val/cat": 12, "val/dog": 12})
    write_images(Path("only_train"), {"train/cat": 12, "train/dog": 12})
    write_images(Path("only_val"), {"val/cat": 2})
    write_images(Path("empty_val"), {"train/cat": 12})
    Path("empty_val/val").mkdir()
    write_images(Path("hollow"), {"train/cat": 40, "train/dog": 0})
    Path("empty").mkdir()
    shutil.copytree("images", "corrupt")
    damaged = Path("corrupt/train/cat/3.png")
    damaged.write_bytes(damaged.read_bytes()[:40])
    write_images(Path("imagenet"), {"train/n00000001": 20, "val/n00000009": 2})
    Path("subset.txt").write_text("n00000001\nn00000002\n")
    Path("one.txt").write_text("n00000001\n")
    Path("damaged.yaml").write_text("epochs: 3\n  seed: [1\n")


def write_backbones() -> None:
    def save(name: str, architecture: str) -> None:
        width = {"small_conv": 128, "resnet18": 512}[architecture]
        half = (0.5, 0.5, 0.5)
        info = BackboneInfo(architecture, width, PIXELS, half, half, {"title": "a test"})
        save_backbone(Path(name), build_backbone(architecture), info)

    save("good.safetensors", "small_conv")
    given = ["index", "good.safetensors", "images", "--output", "index", "features.folder=none"]
    assert linear_eval(given) == 0
    save("resnet18.safetensors", "resnet18")
    content = Path("good.safetensors").read_bytes()
    Path("truncated.safetensors").write_bytes(content[: len(content) // 2])
    narrower = content.replace(b"layers.0.0.weight", b"layers.0.0.wieght")
    Path("mislabelled.safetensors").write_bytes(narrower)
    weights = build_backbone("small_conv").state_dict()
    torch.save(weights, "pickle.pt", _use_new_zipfile_serialization=False)
    torch.save(weights, "zip.pt")


def write_runs() -> None:
    assert ssl_bf(["pretrain", "pretrain.yaml", "run.directory=run"]) == 0
    names = ("resnet18", "moco_v3", "without", "truncated", "pickle", "config")
    for name in names:
        shutil.copytree("run", f"run_{name}")
        Path(f"run_{name}/backbone.safetensors").unlink()  # as if it had not finished
    text = Path("run/config.yaml").read_text()
    other = text.replace("name: small_conv", "name: resnet18")
    Path("run_resnet18/config.yaml").write_text(other)
    method = "method: {name: moco_v3, projection_dim: 16, hidden_dim: 16}\nrelation:"
    before, _, after = text.partition("method:")
    Path("run_moco_v3/config.yaml").write_text(before + method + after.partition("relation:")[2])
    Path("run_config/config.yaml").write_text(text.partition("epochs:")[0])
    shutil.rmtree("run_without/checkpoints")
    for file in Path("run_truncated").rglob("tensors.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    for file in Path("run_pickle").rglob("tensors.safetensors"):
        file.write_bytes(Path("pickle.pt").read_bytes())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder full of things that are wrong, each in one way."""
    place = tmp_path_factory.mktemp("bad_input")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("pretrain.yaml").write_text(yaml.safe_dump(PRETRAIN, sort_keys=False))
        Path("judge.yaml").write_text(yaml.safe_dump(JUDGE, sort_keys=False))
        write_data()
        write_backbones()
        write_runs()
    return place


@pytest.fixture
def place(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder to work in; whatever the test changes in it is an error."""
    monkeypatch.chdir(prepared)
    before = snapshot(prepared)
    yield prepared
    assert snapshot(prepared) == before


def snapshot(folder: Path) -> dict[str, str]:
    """Every file and folder below, with the digest of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes() if path.is_file() else b""
        ).hexdigest()
        for path in folder.rglob("*")
    }


def run(case: Case) -> int:
    main = ssl_bf if case.command in ("pretrain", "resume", "export") else linear_eval
    return main([case.command, *case.arguments])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}: {case.name}")
@pytest.mark.usefixtures("place")
def test_wrong_input_is_one_helpful_line_and_leaves_nothing(
    case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(case)
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    for words in case.says:
        assert words in printed.err


def test_a_corrupt_image_met_in_training_names_its_path_and_leaves_no_result(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(prepared)
    # From their files, images are met one batch at a time.
    given = ["data.name=image_folder", "data.root=corrupt", "speed.images=files"]
    try:
        assert ssl_bf(["pretrain", "pretrain.yaml", *given]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: corrupt/train/cat/3.png: ")
        assert not Path("new/backbone.safetensors").exists()
        assert json.loads(Path("new/status.json").read_text())["state"] == "failed"
    finally:
        shutil.rmtree("new", ignore_errors=True)


@pytest.mark.parametrize("memory_mib", [0, 100], ids=["decoded at use", "decoded once"])
def test_a_corrupt_image_can_be_skipped_by_both_commands(
    memory_mib: int,
    prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(prepared)
    data = ["data.name=image_folder", "data.root=corrupt", "data.on_bad_image=skip"]
    data.append("data.max_bad=1")
    given = [*data, f"speed.image_memory_mib={memory_mib}", "run.monitor_every=1", "batch_size=8"]
    try:
        assert ssl_bf(["pretrain", "pretrain.yaml", *given]) == 0
        assert Path("new/backbone.safetensors").exists()
        assert "corrupt/train/cat/3.png" in caplog.text
        capsys.readouterr()
        judged = ["backbone=new/backbone.safetensors", "knn.k=[1]"]
        assert linear_eval(["run", "judge.yaml", *data, *judged]) == 0
        assert "1 train images could not be read and were skipped" in capsys.readouterr().out
        assert json.loads(Path("new/results.json").read_text())["data"]["train_images"] == 23
    finally:
        shutil.rmtree("new", ignore_errors=True)
