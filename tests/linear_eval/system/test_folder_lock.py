import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from linear_eval.system.folder_lock import InUseError, sole_use, take_lock


def _unexpected() -> None:
    raise AssertionError("nobody else holds the lock")


def test_a_free_lock_is_taken_at_once_and_makes_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    for _ in range(2):
        with take_lock(folder, _unexpected):
            pass
    assert folder.is_dir()


@pytest.mark.parametrize("fate", ["stays", "renamed", "deleted"])
def test_the_second_waits_and_then_holds_the_lock_at_the_same_path(
    tmp_path: Path, fate: str
) -> None:
    folder = tmp_path / "folder"
    first = ExitStack()
    first.enter_context(take_lock(folder, _unexpected))
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
        gone = folder.rename(tmp_path / "gone")  # or the second might put its file in meanwhile
        shutil.rmtree(gone)
    first.close()
    assert has_lock.wait(20)
    third_waits = threading.Event()

    def third() -> None:
        with take_lock(folder, third_waits.set):
            pass

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


def test_a_folder_is_used_by_one_process_and_left_as_it_was(tmp_path: Path) -> None:
    with sole_use(tmp_path):
        program = (
            "import sys; from pathlib import Path\n"
            "from linear_eval.system.folder_lock import InUseError, sole_use\n"
            "try:\n    with sole_use(Path(sys.argv[1])): print('free')\n"
            "except InUseError: print('in use')"
        )
        command = [sys.executable, "-c", program, str(tmp_path)]
        assert subprocess.check_output(command, text=True) == "in use\n"
    assert not list(tmp_path.iterdir())
    assert subprocess.check_output(command, text=True) == "free\n"


def test_what_a_killed_process_leaves_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with sole_use(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_an_earlier_versions_lock_counts(tmp_path: Path) -> None:
    """It was taken by `fcntl.flock` on the same file."""
    waits = threading.Event()

    def take() -> None:
        with take_lock(tmp_path, waits.set):
            pass

    thread = threading.Thread(target=take)
    with (tmp_path / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        thread.start()
        assert waits.wait(20)
        assert thread.is_alive()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_told_once_and_used_unlocked(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = f"{tmp_path}: this file system has no locks ({os.strerror(number)}); going on without"
    with take_lock(tmp_path, _unexpected):
        printed = capsys.readouterr().err
        assert printed.startswith(said) and printed.count("\n") == 1
    with sole_use(tmp_path), sole_use(tmp_path):
        assert capsys.readouterr().err.count(said) == 2


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_another_failure_of_the_disk_is_no_lack_of_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match=os.strerror(number)), take_lock(tmp_path, _unexpected):
        pass
    with pytest.raises(OSError, match=os.strerror(number)), sole_use(tmp_path):
        pass


def test_a_folder_held_by_another_is_no_os_error(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InUseError), sole_use(tmp_path):
            pass
    assert (tmp_path / ".lock").exists()  # of the other
