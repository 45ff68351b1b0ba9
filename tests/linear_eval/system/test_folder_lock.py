import threading
from pathlib import Path

import pytest

from linear_eval.system.folder_lock import take_lock


def _unexpected() -> None:
    raise AssertionError("nobody else holds the lock")


def test_a_free_lock_is_taken_at_once_and_makes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    take_lock(folder, _unexpected).close()
    take_lock(folder, _unexpected).close()
    assert folder.is_dir()


@pytest.mark.parametrize("fate", ["stays", "renamed", "deleted"])
def test_the_second_waits_and_then_holds_the_lock_at_the_same_path(
    tmp_path: Path, fate: str
) -> None:
    folder = tmp_path / "folder"
    first = take_lock(folder, _unexpected)
    waits, has_lock, release = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        with take_lock(folder, waits.set):
            has_lock.set()
            release.wait(20)

    thread = threading.Thread(target=second)
    thread.start()
    assert waits.wait(20)
    assert not has_lock.is_set()
    if fate == "renamed":
        folder.rename(tmp_path / "finished")
    elif fate == "deleted":
        (folder / "lock").unlink()
        folder.rmdir()
    first.close()
    assert has_lock.wait(20)
    third_waits = threading.Event()

    def third() -> None:
        take_lock(folder, third_waits.set).close()

    other = threading.Thread(target=third)
    other.start()
    assert third_waits.wait(20)  # what the second holds is the lock of the path, not of a ghost
    release.set()
    thread.join(20)
    other.join(20)
    assert not thread.is_alive() and not other.is_alive()


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        take_lock(tmp_path / "file" / "folder", _unexpected)
