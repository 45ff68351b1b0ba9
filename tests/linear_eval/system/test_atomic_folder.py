import os
from pathlib import Path

import pytest

from linear_eval.system.atomic_folder import atomic_folder, delete_folder, put_in_place


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def make(folder: Path, name: str) -> None:
    folder.mkdir()
    (folder / name).write_bytes(b"bytes")


def test_a_folder_appears_when_the_block_is_over_and_replaces_what_was_there(
    tmp_path: Path,
) -> None:
    make(tmp_path / "it", "old")
    make(tmp_path / ".tmp-it", "of a killed process")
    make(tmp_path / ".trash-it", "of a killed process")
    with atomic_folder(tmp_path / "it") as folder:
        make(folder / "inner", "new")
        assert names(tmp_path / "it") == ["old"]
    assert names(tmp_path) == ["it", "it/inner", "it/inner/new"]


def test_a_failure_leaves_the_old_folder_and_no_other(tmp_path: Path) -> None:
    make(tmp_path / "it", "old")
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "it") as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["it", "it/old"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "it", "old")
    rename = Path.rename

    def refuse_the_new_one(path: Path, target: Path) -> Path:
        if path.name == ".tmp-it":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(OSError, match="Input/output"), atomic_folder(tmp_path / "it"):
        pass
    assert names(tmp_path) == ["it", "it/old"]


def test_everything_reaches_the_disk_before_the_rename_and_the_rename_before_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "it", "old")
    done = []
    fsync, rename, rmdir = os.fsync, os.rename, os.rmdir

    def record(what: str, path: object) -> None:
        done.append(f"{what} {Path(str(path)).relative_to(tmp_path.parent)}")

    def recorded_fsync(file: int) -> None:
        record("fsync", Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    def recorded_rename(source: Path, target: Path) -> None:
        record("rename to", target)
        rename(source, target)

    def recorded_rmdir(path: Path, **options: int | None) -> None:
        done.append("delete")
        rmdir(path, **options)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    monkeypatch.setattr(os, "rmdir", recorded_rmdir)
    with atomic_folder(tmp_path / "it") as folder:
        make(folder / "a", "b")
    parent, made = tmp_path.name, f"{tmp_path.name}/.tmp-it"
    assert done == [
        *(f"fsync {made}/a", f"fsync {made}/a/b", f"fsync {made}"),
        *(f"rename to {parent}/.trash-it", f"rename to {parent}/it", f"fsync {parent}", "delete"),
    ]


def test_what_a_link_points_to_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "other", "file")
    (tmp_path / "it").symlink_to(tmp_path / "other")
    make(tmp_path / "made", "new")
    put_in_place(tmp_path / "made", tmp_path / "it")
    assert names(tmp_path) == ["it", "it/new", "other", "other/file"]
    delete_folder(tmp_path / "it")
    assert names(tmp_path) == ["other", "other/file"]
