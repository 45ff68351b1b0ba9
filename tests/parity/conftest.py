"""Numbers recorded from the published implementations, and how closely ours must agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

Recorded = dict[str, NDArray[np.generic]]


@pytest.fixture
def parity_file() -> Callable[[str], Recorded]:
    """Function from a name ("lars" or "lars.npz") to its arrays; skips only without the folder."""
    default = Path(__file__).parents[2] / "../shared/parity"
    folder = Path(os.environ.get("PARITY_DIR", default))
    if not folder.is_dir():
        pytest.skip("the folder of recorded numbers is absent; PARITY_DIR can name it")

    def load(name: str) -> Recorded:
        with np.load((folder / name).with_suffix(".npz"), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load


@pytest.fixture
def assert_agrees() -> Callable[[ArrayLike | torch.Tensor, ArrayLike | torch.Tensor, str], None]:
    """Function (ours, recorded, what) that fails unless max|a-b| <= 1e-10 * max|b| + 1e-13.

    Both sides ran in float64; the slack covers another order of summation, and 1e-13 the entries
    that are zero in mathematics and hold rounding noise.
    """
    return check_agreement


def check_agreement(
    ours: ArrayLike | torch.Tensor, recorded: ArrayLike | torch.Tensor, what: str
) -> None:
    """Body of the fixture `assert_agrees`."""
    a, b = _as_float64(ours), _as_float64(recorded)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, recorded {b.shape}"
    difference = float(np.max(np.abs(a - b), initial=0.0))
    allowed = 1e-10 * float(np.max(np.abs(b), initial=0.0)) + 1e-13
    assert difference <= allowed, f"{what}: differs by {difference:.3g}, allowed {allowed:.3g}"


def _as_float64(values: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
