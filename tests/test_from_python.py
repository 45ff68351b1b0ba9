"""The top of a package offers what its room `from_python` does, and loads nothing before that."""

import importlib
import subprocess
import sys

import pytest

import linear_eval


@pytest.mark.parametrize("package", ["linear_eval", "ssl_bf"])
def test_the_top_offers_what_the_room_does(package: str) -> None:
    top, room = (importlib.import_module(name) for name in (package, f"{package}.from_python"))
    for name in room.__all__:
        assert getattr(top, name) is getattr(room, name)
        assert name in dir(top)
    assert top.InputError is linear_eval.InputError


@pytest.mark.parametrize("package", ["linear_eval", "ssl_bf"])
def test_importing_a_package_loads_no_torch(package: str) -> None:
    program = f"import sys, {package}; dir({package}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = linear_eval.lode  # type: ignore[attr-defined]
