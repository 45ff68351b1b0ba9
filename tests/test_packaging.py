"""What setup.cfg installs is what the folders hold. Run: pytest tests/test_packaging.py."""

import configparser
import fnmatch
import tomllib
from pathlib import Path

import pytest

import linear_eval
import ssl_bf

ROOT = Path(__file__).parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg", encoding="utf-8")


def lines(section: str, key: str) -> list[str]:
    return SETTINGS[section][key].split("\n")[1:] or [SETTINGS[section][key]]


def test_every_folder_with_an_init_is_a_package_and_no_other() -> None:
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("linear_eval", "ssl_bf", "configs")
        for path in (ROOT / top).rglob("__init__.py")
    }
    folders = {"linear_eval.configs" if name == "configs" else name for name in folders}
    assert set(lines("options", "packages")) == folders
    assert lines("options", "package_dir") == ["linear_eval.configs = configs"]


def test_every_folder_with_modules_has_an_init() -> None:
    for top in ("linear_eval", "ssl_bf"):
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), path


def test_every_file_of_configs_is_packaged() -> None:
    patterns = lines("options.package_data", "linear_eval.configs")
    files = [
        path.relative_to(ROOT / "configs").as_posix()
        for path in (ROOT / "configs").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    left_out = [
        name
        for name in files
        if not any(
            fnmatch.fnmatch(name, each) and name.count("/") == each.count("/") for each in patterns
        )
    ]
    assert left_out == []


@pytest.mark.parametrize("package", ["linear_eval", "ssl_bf"])
def test_a_package_tells_type_checkers_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert lines("options.package_data", package) == ["py.typed"]


def test_every_setting_has_one_home() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(pyproject) == {"build-system", "tool"}  # a [project] table would hide setup.cfg
    assert set(pyproject["tool"]) == {"ruff"}
    second_homes = """pytest.ini mypy.ini tox.ini ruff.toml .ruff.toml .flake8 .mypy.ini .coveragerc
        requirements.txt setup.py MANIFEST.in uv.lock poetry.lock Pipfile conftest.py"""
    assert [name for name in second_homes.split() if (ROOT / name).exists()] == []


def test_the_commands_start_where_ctrl_c_is_caught() -> None:
    assert lines("options.entry_points", "console_scripts") == [
        "ssl-bf = ssl_bf.__main__:main",
        "linear-eval = linear_eval.__main__:main",
    ]


def test_both_packages_have_the_version_that_is_installed() -> None:
    assert SETTINGS["metadata"]["version"] == "attr: linear_eval.__version__"
    assert ssl_bf.__version__ == linear_eval.__version__


def test_the_core_is_what_the_architecture_lists() -> None:
    names = [line.split(">")[0].split(";")[0] for line in lines("options", "install_requires")]
    assert (
        names
        == """torch torchvision lightly numpy pyyaml safetensors tqdm filelock
        faiss-gpu faiss-cpu""".split()
    )
    # With a tighter bound pip may choose a torch that the newest torchvision is not built for.
    assert {"torch>=2.6,<3", "torchvision>=0.21,<1"} < set(lines("options", "install_requires"))


def test_exactly_one_faiss_is_installed_on_any_machine() -> None:
    gpu, cpu = (line for line in lines("options", "install_requires") if line.startswith("faiss"))
    for platform in ("linux", "darwin", "win32"):
        for machine in ("x86_64", "aarch64", "arm64", "AMD64"):
            facts = {"sys_platform": platform, "platform_machine": machine}
            chosen = [holds(each.split(";")[1], facts) for each in (gpu, cpu)]
            assert (
                chosen == [True, False]
                if (platform, machine) == ("linux", "x86_64")
                else [
                    False,
                    True,
                ]
            )


def holds(marker: str, facts: dict[str, str]) -> bool:
    """Evaluate a marker of the form `name op "value" and|or name op "value"`."""
    left, joint, right = marker.split()[:3], marker.split()[3], marker.split()[4:]
    sides = [(facts[name] == value.strip('"')) == (op == "==") for name, op, value in (left, right)]
    return all(sides) if joint == "and" else any(sides)
