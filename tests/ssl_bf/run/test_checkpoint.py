"""Tests of ssl_bf.run.checkpoint: every way to interrupt, fill up or damage it that we know of."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.system.errors import InputError
from ssl_bf.run.checkpoint import MANIFEST, STATE, TENSORS, copied, load_newest, save

FILES = (TENSORS, STATE, MANIFEST)
# What writing a checkpoint asks of the system; Path's methods call these.
CALLS = ("mkdir", "open", "fsync", "rename", "unlink", "rmdir")


def some_tensors(step: int) -> dict[str, Tensor]:
    return {
        "method/weight": torch.arange(6.0).reshape(2, 3) + step,
        "method/count": torch.tensor(step),
    }


def save_step(run: Path, step: int, keep: int = 2) -> Path:
    return save(run, step=step, tensors=some_tensors(step), state={"step": step}, keep=keep)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def assert_loads(run: Path, step: int) -> None:
    found = load_newest(run)
    assert (found.step, found.state) == (step, {"step": step})
    assert found.tensors.keys() == some_tensors(step).keys()
    for name, value in some_tensors(step).items():
        assert torch.equal(found.tensors[name], value), name


def test_tensors_of_every_kind_come_back_bit_for_bit(tmp_path: Path) -> None:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    tensors = {
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "shared_1": base,
        "shared_2": base,
        "transposed": base.T,
        "expanded": base[0].expand(3, 6),
        "slice": base[1:3, ::2],
        "parameter": torch.nn.Parameter(torch.tensor([1.0, -0.0, float("nan"), float("inf")])),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 5),
        "int64": torch.tensor([2**62 + 1, -1]),
        "bool": torch.tensor([True, False]),
        "bfloat16": base.bfloat16(),
        "float64": base.double() / 3,
    }
    save(tmp_path, step=1, tensors=copied(tensors), state={"a": [1, 0.1, None, "x"]}, keep=1)
    found = load_newest(tmp_path)
    assert found.state == {"a": [1, 0.1, None, "x"]}
    assert found.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        loaded, expected = found.tensors[name], value.detach().contiguous()
        assert (loaded.dtype, loaded.shape) == (expected.dtype, expected.shape), name
        raw = (t.reshape(-1).view(torch.uint8) for t in (loaded, expected))
        assert torch.equal(*raw), name


def test_the_folder_has_the_promised_files_and_no_pickle(tmp_path: Path) -> None:
    path = save_step(tmp_path, 1400)
    assert path == tmp_path / "checkpoints" / "step-000001400"
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["format_version"] == 1
    assert manifest["step"] == 1400
    assert manifest["files"][STATE]["bytes"] == (path / STATE).stat().st_size


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept_and_foreign_names_are_never_touched(tmp_path: Path, keep: int) -> None:
    folder = tmp_path / "checkpoints"
    foreign = ["step-12", "step-000000001.bak", "best", ".tmp-notes", "xstep-000000001"]
    for name in foreign:
        (folder / name).mkdir(parents=True)
    (folder / "step-000000000").write_text("a file, not a folder")
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / "step-000000001").symlink_to(tmp_path, target_is_directory=True)
    for step in range(2, 8):
        save_step(tmp_path, step, keep=keep)
        assert_loads(tmp_path, step)
    kept = [f"step-{step:09d}" for step in range(8 - keep, 8)]
    others = [*foreign, "step-000000000", "step-000000001", "elsewhere"]
    assert names(tmp_path) == sorted(kept + others)


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_step(tmp_path, step, keep=3)
    (tmp_path / "checkpoints/step-000000003" / STATE).write_text("{}")
    save_step(tmp_path, 4, keep=2)
    assert names(tmp_path) == ["step-000000002", "step-000000003", "step-000000004"]


def test_a_damaged_newer_checkpoint_neither_counts_nor_stays_in_the_way(tmp_path: Path) -> None:
    for step in (10, 20):
        save_step(tmp_path, step)
    (tmp_path / "checkpoints/step-000000020" / TENSORS).write_bytes(b"")
    save_step(tmp_path, 15, keep=1)
    assert_loads(tmp_path, 15)
    assert names(tmp_path) == ["step-000000015", "step-000000020"]
    save_step(tmp_path, 20, keep=1)
    assert_loads(tmp_path, 20)
    assert names(tmp_path) == ["step-000000020"]


def test_a_sound_checkpoint_is_not_written_again(tmp_path: Path) -> None:
    path = save_step(tmp_path, 3)
    before = (path / TENSORS).stat().st_ino
    save(tmp_path, step=3, tensors={}, state={}, keep=1)
    assert (path / TENSORS).stat().st_ino == before
    assert_loads(tmp_path, 3)


def flip(content: bytes, position: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_found_and_the_previous_checkpoint_is_used(
    tmp_path: Path, name: str
) -> None:
    save_step(tmp_path, 1)
    file = save_step(tmp_path, 2) / name
    sound = file.read_bytes()
    for position in range(len(sound)):
        for bit in (position % 8, (position + 5) % 8):
            file.write_bytes(flip(sound, position, bit))
            found = load_newest(tmp_path)
            assert (found.step, len(found.notes)) == (1, 1), (position, bit)
    file.write_bytes(sound)
    assert_loads(tmp_path, 2)
    assert load_newest(tmp_path).notes == []


@pytest.mark.parametrize("name", FILES)
def test_any_truncation_is_found(tmp_path: Path, name: str) -> None:
    save_step(tmp_path, 1)
    file = save_step(tmp_path, 2) / name
    sound = file.read_bytes()
    for length in range(len(sound)):
        file.write_bytes(sound[:length])
        assert load_newest(tmp_path).step == 1, length
    file.write_bytes(sound + b"\0")
    assert load_newest(tmp_path).step == 1


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_swapped_file_is_found_with_one_line(tmp_path: Path, name: str) -> None:
    old, new = save_step(tmp_path, 1), save_step(tmp_path, 2)
    sound = (new / name).read_bytes()
    (new / name).unlink()
    (note,) = load_newest(tmp_path).notes
    assert "\n" not in note
    assert note.startswith("warning: ")
    assert f"step-000000002: {name} is missing" in note
    (new / name).write_bytes((old / name).read_bytes())
    (note,) = load_newest(tmp_path).notes
    assert "does not match its checksum" in note
    (new / name).write_bytes(sound)
    assert_loads(tmp_path, 2)


def test_a_renamed_checkpoint_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    save_step(tmp_path, 1)
    path = save_step(tmp_path, 2)
    path.rename(path.with_name("step-000000009"))
    found = load_newest(tmp_path)
    assert found.step == 1
    assert "step-000000009: MANIFEST.json does not match" in found.notes[0]

    file = tmp_path / "checkpoints/step-000000001" / MANIFEST
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(InputError, match=r"step-000000001: format version is 2, .* reads 1"):
        load_newest(tmp_path)


def test_when_all_are_damaged_each_is_named_with_its_reason(tmp_path: Path) -> None:
    for step in (1, 2):
        path = save_step(tmp_path, step)
        (path / (STATE, TENSORS)[step - 1]).write_bytes(b"pickled?")
    with pytest.raises(InputError) as caught:
        load_newest(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"step-000000001: {STATE} does not match" in message
    assert f"step-000000002: {TENSORS} does not match" in message


def test_no_checkpoint_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    for run in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"holds no checkpoint, expected checkpoints/step-"):
            load_newest(run)
    (tmp_path / "checkpoints" / ".tmp-step-000000001").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_newest(tmp_path)


def hook_calls(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[int, str, tuple[Any, ...]], None]
) -> None:
    """Call `act(number, name, arguments)` before each call of `CALLS` and each half write."""
    count = 0

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            act(count, name, args)
            return original(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    # Path.open does not pass through os.open: written in two halves, so that it can be cut.
    original_open = Path.open

    def opened(path: Path, mode: str = "r", *args: Any) -> Any:
        file = counted("open", original_open)(path, mode, *args)
        if "b" in mode and "r" not in mode:
            write = file.write

            class Halves:
                def __enter__(self) -> Halves:
                    return self

                def __exit__(self, *details: object) -> None:
                    file.close()

                def __getattr__(self, name: str) -> Any:
                    return getattr(file, name)

                def write(self, content: bytes) -> int:
                    middle = len(content) // 2
                    write(content[:middle])
                    file.flush()
                    counted("write", write)(content[middle:])
                    return len(content)

            return Halves()
        return file

    monkeypatch.setattr(Path, "open", opened)


def count_calls(run: Path, scenario: Callable[[Path], object]) -> list[str]:
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        hook_calls(monkeypatch, lambda number, name, args: seen.append(name))
        scenario(run)
    return seen


def prepare(run: Path) -> None:
    """Two checkpoints, a leftover of a killed process, and a damaged one in the way of step 30."""
    run.mkdir()
    for step in (10, 20, 30):
        save_step(run, step, keep=3)
    (run / "checkpoints/step-000000030" / STATE).write_bytes(b"")
    shutil.copytree(run / "checkpoints/step-000000020", run / "checkpoints/.tmp-step-000000025")


def save_30(run: Path) -> object:
    return save_step(run, 30, keep=1)


def die_at(monkeypatch: pytest.MonkeyPatch, fatal: int) -> None:
    def act(number: int, name: str, args: tuple[Any, ...]) -> None:
        if number == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    hook_calls(monkeypatch, act)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_killed_before_any_call_leaves_a_loadable_run(tmp_path: Path) -> None:
    prepare(tmp_path / "counted")
    calls = count_calls(tmp_path / "counted", save_30)
    assert set(calls) == {*CALLS, "write"}, "a call is not hooked any more"
    committed = []
    for fatal in range(1, len(calls) + 1):
        run = tmp_path / str(fatal)
        prepare(run)
        child = os.fork()
        if child == 0:
            die_at(pytest.MonkeyPatch(), fatal)
            save_30(run)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"call {fatal} was not reached"
        found = load_newest(run)
        assert found.step in (20, 30), (fatal, calls[fatal - 1])
        assert_loads(run, found.step)
        committed.append(found.step == 30)
        save_30(run)  # a restarted run cleans up and goes on
        assert_loads(run, 30)
        assert names(run) == ["step-000000030"], (fatal, calls[fatal - 1])
    assert committed == sorted(committed), "once committed, a checkpoint never disappears"
    assert {True, False} == set(committed)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failing_call_gives_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, number: int
) -> None:
    prepare(tmp_path / "counted")
    calls = count_calls(tmp_path / "counted", save_30)
    for failing, failing_name in enumerate(calls, 1):
        run = tmp_path / str(failing)
        prepare(run)

        def act(count: int, name: str, args: tuple[Any, ...], failing: int = failing) -> None:
            if count == failing:
                raise OSError(number, os.strerror(number))

        message = None
        with pytest.MonkeyPatch.context() as monkeypatch:
            hook_calls(monkeypatch, act)
            try:
                save_30(run)
            except InputError as error:
                message = str(error)
        if message is None:
            # Only a read of the damaged one, or making a folder that is there, may fail unheard.
            assert failing_name in ("open", "mkdir"), (failing, failing_name)
            assert_loads(run, 30)
            continue
        assert "\n" not in message
        assert "step-000000030: the checkpoint cannot be saved" in message
        assert os.strerror(number) in message
        found = load_newest(run).step
        assert found in (20, 30)
        assert_loads(run, found)
        assert ".tmp-step-000000030" not in names(run), (failing, failing_name)


def test_content_reaches_the_disk_before_the_rename_and_the_rename_before_deletion(
    tmp_path: Path,
) -> None:
    save_step(tmp_path, 1)
    events: list[str] = []

    def act(number: int, name: str, args: tuple[Any, ...]) -> None:
        if name == "fsync":
            target = Path(f"/proc/self/fd/{args[0]}").readlink()
            events.append(f"fsync {target.relative_to(tmp_path)}")
        elif name == "rename":
            events.append(f"rename to {Path(args[1]).relative_to(tmp_path)}")

    with pytest.MonkeyPatch.context() as monkeypatch:
        hook_calls(monkeypatch, act)
        save_step(tmp_path, 2, keep=1)
    temporary = "checkpoints/.tmp-step-000000002"
    assert events == [
        *(f"fsync {temporary}/{name}" for name in sorted(FILES)),
        f"fsync {temporary}",
        "rename to checkpoints/step-000000002",
        "fsync checkpoints",
        "rename to checkpoints/.trash-step-000000001",
    ]


def test_nothing_old_is_deleted_when_the_new_one_does_not_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_step(tmp_path, 1)
    rename = os.rename

    def rename_and_damage(source: Path, target: Path) -> None:
        rename(source, target)
        (Path(target) / TENSORS).write_bytes(b"lost")

    monkeypatch.setattr(os, "rename", rename_and_damage)
    with pytest.raises(InputError, match=r"does not read back as written: tensors.safetensors"):
        save_step(tmp_path, 2, keep=1)
    assert_loads(tmp_path, 1)


def test_state_that_is_not_json_is_our_own_mistake_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        save(tmp_path, step=1, tensors={}, state={"loss": float("nan")}, keep=1)
    assert names(tmp_path) == []
