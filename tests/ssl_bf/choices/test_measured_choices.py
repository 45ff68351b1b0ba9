"""Tests of ssl_bf.choices.measured_choices, mostly with times that are made up."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from linear_eval.strict_config.reader import parse_config
from linear_eval.system.errors import InputError
from ssl_bf.choices import measured_choices
from ssl_bf.choices.measured_choices import (
    Choices,
    choose,
    seconds_of_precisions,
    seconds_of_threads,
)
from ssl_bf.config import PretrainConfig
from ssl_bf.run import checkpoint

SHORT: dict[str, Any] = {
    "data": {"name": "textures"},
    "views": {"recipe": "textures", "size": 16},
    "backbone": {"name": "small_conv"},
    "method": {"name": "simsiam"},
    "optimizer": {"name": "sgd"},
    "epochs": 1,
    "batch_size": 8,
    "run": {"directory": "unused"},
}
CPU = torch.device("cpu")


def config(*overrides: str) -> PretrainConfig:
    return parse_config(PretrainConfig, SHORT, overrides).value


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    *,
    bf16: float = 1.0,
    threads: dict[int, float] | None = None,
) -> None:
    """Seconds of bf16 where float32 takes 1; seconds by number of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(measured_choices, "usable_cores", lambda: 4)
    seconds = {"float32": 1.0, "bf16": bf16}
    monkeypatch.setattr(measured_choices, "seconds_of_precisions", lambda _: seconds)
    by_threads = threads or {4: 1.0, 1: 3.0}
    monkeypatch.setattr(measured_choices, "seconds_of_threads", lambda *_: by_threads)


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(measured_choices, "seconds_of_precisions", measured)
    monkeypatch.setattr(measured_choices, "seconds_of_threads", measured)


@pytest.mark.parametrize(
    ("bf16", "line"),
    [
        (0.625, "precision: bf16, measured 1.6 times as fast as float32 here"),
        (1.4, "precision: float32, measured 1.4 times as fast as bf16 here"),
        (0.99, "precision: float32, measured 0.99 times as fast as bf16 here"),  # may be noise
    ],
)
def test_auto_takes_the_faster_precision_and_says_so(
    bf16: float, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, bf16=bf16)
    found = choose(config(), CPU)
    assert found.precision == line.split()[1].strip(",")
    assert line in found.notes
    assert found.seconds_per_view == (bf16 if found.precision == "bf16" else 1.0)


@pytest.mark.parametrize(
    ("seconds", "threads", "line"),
    [
        ({4: 1.0, 3: 1.2, 1: 3.0}, 4, "threads: 4 of 4 cores, measured 1.2 times as fast as 3"),
        ({4: 6.0, 3: 1.2, 1: 3.0}, 3, "threads: 3 of 4 cores, measured 5.0 times as fast as 4"),
    ],
)
def test_auto_takes_the_fastest_number_of_threads(
    seconds: dict[int, float], threads: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, threads=seconds)
    found = choose(config("precision=float32"), CPU)
    assert found.threads == threads
    assert line in found.notes
    assert found.seconds_per_view == seconds[threads]


def test_what_is_given_is_taken_unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    no_measuring(monkeypatch)
    given = config("precision=float32", "speed.threads=3")
    assert choose(given, CPU) == Choices("float32", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = choose(config("precision=float32"), CPU)
    assert found == Choices("float32", 2, ("threads: 2, as OMP_NUM_THREADS says",))
    now = torch.get_num_threads()
    assert choose(config("precision=float32", "speed.threads=null"), CPU).threads == now


def test_bf16_that_is_slow_here_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, bf16=1.4)
    found = choose(config("precision=bf16", "speed.threads=1"), CPU)
    assert found.precision == "bf16"
    assert found.notes[0].startswith("warning: precision=bf16 is slow here, measured 0.71 times")
    pretend(monkeypatch, bf16=0.7)
    assert choose(config("precision=bf16", "speed.threads=1"), CPU).notes == ()


def test_a_run_that_goes_on_keeps_what_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    no_measuring(monkeypatch)
    monkeypatch.setattr(measured_choices, "usable_cores", lambda: 4)
    found = choose(config(), CPU, {"precision": "bf16", "threads": 4})
    assert (found.precision, found.threads) == ("bf16", 4)
    more = choose(config(), CPU, {"precision": "float32", "threads": 9})
    assert (more.precision, more.threads) == ("float32", 9)
    assert any("may use 4 core(s) now: speed.threads=4 is likely faster" in n for n in more.notes)
    other = choose(config("speed.threads=2"), CPU, {"precision": "float32", "threads": 4})
    assert other.threads == 2
    earlier = choose(config("precision=bf16", "speed.threads=1"), CPU, {})  # of earlier versions
    assert (earlier.precision, earlier.threads) == ("bf16", 1)


def test_a_run_like_another_computes_as_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_measuring(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    weights = {"method/weight": torch.zeros(1)}
    state: dict[str, Any] = {"precision": "bf16", "threads": 1}
    checkpoint.save(tmp_path, step=1, tensors=weights, state=state, keep=1)
    like = f"speed.like={tmp_path}"
    notes = (f"precision: bf16, as in {tmp_path}", f"threads: 1, as in {tmp_path}")
    assert choose(config(like), CPU) == Choices("bf16", 1, notes)
    assert choose(config(like, "precision=float32"), CPU) == Choices("float32", 1, notes[1:])
    assert choose(config(like, "speed.threads=2"), CPU) == Choices("bf16", 2, notes[:1])
    with pytest.raises(InputError, match=r"speed\.like: says nothing that is asked for.*leave"):
        config(like, "precision=float32", "speed.threads=2")
    with pytest.raises(
        InputError, match=r"^speed\.like: .* is no directory, expected that of a run"
    ):
        choose(config(f"speed.like={tmp_path / 'other'}"), CPU)
    checkpoint.save(tmp_path, step=2, tensors=weights, state=state | {"precision": "fp8"}, keep=1)
    with pytest.raises(InputError, match=r"^speed\.like: the checkpoint of .*: says .* fp8"):
        choose(config(like), CPU)


@pytest.mark.parametrize(
    "state",
    [{}, {"precision": "fp8", "threads": 1}, {"precision": "bf16", "threads": "two"}],
)
def test_a_checkpoint_that_does_not_say_how_to_go_on_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^checkpoint: says .*expected float32 or bf16.*backup$"):
        choose(config(), CPU, state)


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "float32")])
def test_on_a_gpu_auto_is_bf16_where_it_has_that(
    native: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_measuring(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    gpu = torch.device("cuda", 0)
    found = choose(config(), gpu)
    assert found.precision == precision
    assert f"precision: {precision}, as suits this GPU" in found.notes
    if not native:
        for asked, begun in (("auto", {"precision": "bf16", "threads": 1}), ("bf16", None)):
            with pytest.raises(InputError, match=r"^precision: bf16, which this GPU cannot"):
                choose(config(f"precision={asked}"), gpu, begun)


def test_measuring_touches_no_random_numbers_and_no_threads() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = seconds_of_precisions(config())
    assert all(seconds > 0 for seconds in found.values())
    assert found.keys() == {"float32", "bf16"}
    assert seconds_of_threads(config(), "bf16", 2).keys() == {2, 1}
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_backbone_whose_first_layer_is_frozen_can_be_measured() -> None:
    pytest.importorskip("timm", reason="vision transformers need the extra timm")
    run, _ = measured_choices._trial(config("backbone.name=vit_micro", "views.size=32"), "float32")
    run(2)


def _choose_in_a_process(rank: int, port: int) -> None:
    store = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    with pytest.MonkeyPatch.context() as patch:
        seconds = {4: 6.0, 3: 1.0, 1: 2.0} if rank == 0 else {4: 1.0, 3: 2.0, 1: 3.0}
        pretend(patch, bf16=0.5 if rank == 0 else 2.0, threads=seconds)
        found = choose(config(), CPU)
    dist.destroy_process_group()
    assert (found.precision, found.threads) == ("bf16", 3), rank


@pytest.mark.dist
def test_every_process_takes_the_choice_of_the_main_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_choose_in_a_process, args=(port,), nprocs=2)
