"""Run: pytest tests/linear_eval/test_config_source.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from linear_eval.strict_config import source as config_source
from linear_eval.strict_config.source import parse_overrides, parse_yaml, read_config_file
from linear_eval.strict_config.types import Plain
from linear_eval.system.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packaged configs: pretrain/quickstart.yaml and pretrain/moco_v2.yaml."""
    folder = tmp_path / "configs" / "pretrain"
    folder.mkdir(parents=True)
    (folder / "quickstart.yaml").write_text("epochs: 3\n", encoding="utf-8")
    (folder / "moco_v2.yaml").write_text("epochs: 4\n", encoding="utf-8")
    monkeypatch.setattr(config_source, "packaged_folder", lambda: folder.parent)
    monkeypatch.chdir(tmp_path)
    return folder


def problem(source: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config_file(source, "pretrain")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_scalar_without_quotes_stays_the_text_it_was() -> None:
    read = parse_yaml("[1e-4, 007, on, 3:30, 2026-01-02, 0x1F]")
    assert read == ["1e-4", "007", "on", "3:30", "2026-01-02", "0x1F"]
    assert all(type(value) is Plain for value in read)


def test_quotes_make_text_and_null_is_null() -> None:
    assert parse_yaml("['1', null, ~, 'null']") == ["1", None, None, "null"]
    assert type(parse_yaml("'1'")) is str


def test_a_packaged_config_is_found_by_its_name(packaged: Path) -> None:
    assert read_config_file("quickstart", "pretrain") == {"epochs": "3"}


def test_a_folder_of_the_same_name_does_not_hide_a_packaged_config(packaged: Path) -> None:
    Path("quickstart").mkdir()
    assert read_config_file("quickstart", "pretrain") == {"epochs": "3"}


def test_a_path_is_read_as_a_file(packaged: Path) -> None:
    Path("quickstart.yaml").write_text("epochs: 5\n", encoding="utf-8")
    assert read_config_file("quickstart.yaml", "pretrain") == {"epochs": "5"}
    assert read_config_file(str(packaged / "moco_v2.yaml"), "pretrain") == {"epochs": "4"}


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert read_config_file(str(tmp_path / "empty.yaml"), "pretrain") == {}


def test_an_unknown_name_is_answered_with_the_nearest_or_all(packaged: Path) -> None:
    assert problem("quickstat") == (
        "quickstat: no such config, expected a path or the name of a packaged config."
        " Did you mean 'quickstart'?"
    )
    assert problem("simsiam") == (
        "simsiam: no such config, expected a path or the name of a packaged config"
        " (moco_v2, quickstart)."
    )
    assert problem("configs/moco_v2.yaml").startswith("configs/moco_v2.yaml: no such file")


def test_an_override_in_the_place_of_the_config_says_that_the_config_is_missing(
    packaged: Path,
) -> None:
    assert problem("data.root=some/images") == (
        "CONFIG: missing, data.root=some/images is an override; give a YAML file or the name of a "
        "packaged config before it"
    )
    assert problem("runs/epochs=3/config.yaml").startswith("runs/epochs=3/config.yaml: no such f")
    Path("lr=0.1.yaml").write_text("epochs: 5\n", encoding="utf-8")
    assert read_config_file("lr=0.1.yaml", "pretrain") == {"epochs": "5"}


@pytest.mark.parametrize("source", ["judge", "judge.yaml"])
def test_a_config_of_the_other_command_names_that_command(packaged: Path, source: str) -> None:
    evaluate = packaged.parent / "evaluate"
    evaluate.mkdir()
    for path in (evaluate / "judge.yaml", Path("judge.yaml")):
        path.write_text("data: {name: cifar10}\nknn: {k: [1]}\n", encoding="utf-8")
    assert problem(source) == (
        f"{source}: is an evaluation config, expected a pretraining config; "
        "use `linear-eval run`, or give another config"
    )
    assert read_config_file(source, "evaluate")["knn"] == {"k": ["1"]}
    (packaged / "train.yaml").write_text("method: {name: simsiam}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="^train: is a pretraining config.*`ssl-bf pretrain`"):
        read_config_file("train", "evaluate")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\na: 2\n", ":2:1: not valid YAML (key 'a' is given twice)"),
        (b"? [a]\n: 1\n", ":1:3: not valid YAML (a key is a list or a mapping)"),
        (b"a: {[b]: 1}\n", ":1:5: not valid YAML (a key is a list or a mapping)"),
        (b"a: !!int x\n", ":1:4: not valid YAML (could not determine a constructor for the tag"),
        (b"a: !!timestamp x\n", ":1:4: not valid YAML (could not determine a constructor"),
        (b"a: !!map x\n", ":1:4: not valid YAML (expected a mapping node, but found scalar)"),
        (b"a: !!seq x\n", ":1:4: not valid YAML (expected a sequence node, but found scalar)"),
        (b"a: {b: 1, b: 2}\n", ":1:11: not valid YAML (key 'b' is given twice)"),
        (b"a: [1, 2\n", ":2:1: not valid YAML (expected ',' or ']', but got '<stream end>')"),
        (b"a: &x [1]\nb: *x\n", ":2:4: not valid YAML (aliases (*name) are not supported)"),
        (
            b"a: !!python/name:os.system\n",
            ":1:4: not valid YAML (could not determine a constructor",
        ),
        (b"\xff\xfe\x00", ": line 1: the file is UTF-16 text, not UTF-8 (save it"),
        (b"a\x00b: 1\n", ": line 1: holds a zero byte, so it is no text, expected a YAML file"),
        (b"- 1\n- 2\n", ": not a configuration, expected lines of the form key: value"),
        (b"[" * 5000, ": not valid YAML (nested too deeply)"),
    ],
)
def test_a_file_that_is_no_config_is_named_with_the_place(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert problem(str(path)).startswith(f"{path}{message}")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    assert problem(str(tmp_path)) == (
        f"{tmp_path}: is a folder, expected a YAML file or the name of a config"
    )


def checkout(folder: Path, epochs: int, *, configs: str = "configs") -> Path:
    """A copy of the package `linear_eval` with configs of its own, in `configs`."""
    shutil.copytree(
        ROOT / "linear_eval", folder / "linear_eval", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / configs / "pretrain").mkdir(parents=True)
    (folder / configs / "__init__.py").touch()
    (folder / configs / "pretrain" / "mine.yaml").write_text(f"epochs: {epochs}\n")
    return folder


def read_mine(first: str, *path: Path) -> str:
    """What `mine` says to a Python that runs `first` and looks for packages in `path`."""
    module = "linear_eval.strict_config.source"
    read = f"from {module} import read_config_file; print(read_config_file('mine', 'pretrain'))"
    code = f"import sys\nsys.path[:0] = {[*map(str, path)]}\n{first}\n{read}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


def test_a_checkout_reads_its_own_configs_beside_an_installed_one(tmp_path: Path) -> None:
    here = checkout(tmp_path / "here", 1)
    there = checkout(tmp_path / "there", 2)
    # as an editable installation of another checkout answers for the package linear_eval.configs
    editable = f"""if True:
    import importlib.util
    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "linear_eval.configs":
                place = {str(there / "configs")!r}
                return importlib.util.spec_from_file_location(
                    name, place + "/__init__.py", submodule_search_locations=[place]
                )
    sys.meta_path.insert(0, Finder)
"""
    assert read_mine(editable, here) == "{'epochs': '1'}"


def test_an_installed_package_reads_the_configs_in_it(tmp_path: Path) -> None:
    site = checkout(tmp_path / "site-packages", 3, configs="linear_eval/configs")
    (site / "configs" / "pretrain").mkdir(parents=True)  # some other package's
    (site / "configs" / "pretrain" / "mine.yaml").write_text("epochs: 9\n")
    assert read_mine("", site) == "{'epochs': '3'}"


def test_a_package_that_is_not_installed_reads_the_configs_beside_it(tmp_path: Path) -> None:
    assert read_mine("", checkout(tmp_path, 4)) == "{'epochs': '4'}"


def test_a_link_to_a_checkout_reads_the_configs_of_that_checkout(tmp_path: Path) -> None:
    real = checkout(tmp_path / "real", 5)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "linear_eval").symlink_to(real / "linear_eval")
    assert read_mine("", tmp_path / "linked") == "{'epochs': '5'}"


def test_the_shipped_configs_are_found() -> None:
    assert config_source.packaged_folder() == ROOT / "configs"


def test_overrides_nest_by_their_dots() -> None:
    tree, problems = parse_overrides(["a.b=1", "a.c= [2, x] ", "d==", "e={f: 3}", "e.g=4", "h='5'"])
    assert tree == {"a": {"b": "1", "c": ["2", "x"]}, "d": "=", "e": {"f": "3", "g": "4"}, "h": "5"}
    assert problems == []
    assert type(tree["d"]) is Plain
    assert type(tree["h"]) is str


@pytest.mark.parametrize("text", ["", "null", "~"])
def test_an_override_without_a_value_is_null(text: str) -> None:
    assert parse_overrides([f"a={text}"]) == ({"a": None}, [])
