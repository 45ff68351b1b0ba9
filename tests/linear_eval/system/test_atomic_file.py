from pathlib import Path

import pytest

from linear_eval.system.atomic_file import atomic_file, check_output, check_outside
from linear_eval.system.errors import InputError


def test_the_file_appears_only_when_the_block_is_over(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with atomic_file(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_the_file_as_the_umask_allows(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_file(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("name", ["missing/file", "folder"])
def test_an_impossible_path_is_the_users_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(InputError, match=rf"{name}: cannot be written"),
        atomic_file(tmp_path / name),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_place_that_takes_a_file_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(b"old")
    for name in ("old.json", "new.json"):
        check_output(tmp_path / name, "--json", overwrite=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone/file", "gone: no such folder; create it first"),
        ("file/file", "file: no such folder; create it first"),
        ("folder", "folder is a folder, expected a file; give .*folder/NAME"),
        ("x" * 250, "x cannot be written .File name too long.; give a path"),
        ("x" * 300, "x cannot be written .File name too long.; give a path"),
    ],
)
def test_a_place_that_takes_no_file_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rf"^--json: .*{said}"):
        check_output(tmp_path / name, "--json", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_file_that_shall_stay_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    with pytest.raises(InputError, match=r"^--json: .*old exists already; give another path or --"):
        check_output(tmp_path / "old", "--json", overwrite=False)
    check_output(tmp_path / "new", "--json", overwrite=False)


@pytest.mark.parametrize("name", ["images", "images/runs", "other/../images/a/b", "link/run"])
def test_a_place_among_images_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=rf"^--output: .*{name} lies among the images in .*images"):
        check_outside(tmp_path / name, tmp_path / "images", "--output")


@pytest.mark.parametrize("name", ["images_index", "other", "images/.index", "images/.hidden/a"])
def test_a_place_outside_of_images_or_hidden_among_them_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "images").mkdir()
    check_outside(tmp_path / name, tmp_path / "images", "--output")
    check_outside(tmp_path / name, None, "--output")


def test_what_a_killed_process_left_is_deleted_and_what_is_being_written_stays(
    tmp_path: Path,
) -> None:
    names = (".it.0123abcd.part", ".it.0123.part", ".other.0123abcd.part", "it.0123abcd.part")
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    with atomic_file(tmp_path / "it") as outer:
        outer.write(b"outer")
        with atomic_file(tmp_path / "it") as inner:
            inner.write(b"inner")
        assert (tmp_path / "it").read_bytes() == b"inner"
    assert (tmp_path / "it").read_bytes() == b"outer"
    assert {path.name for path in tmp_path.iterdir()} == {"it", *names[1:]}
