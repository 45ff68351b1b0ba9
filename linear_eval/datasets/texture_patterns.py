"""The patterns of the data set `textures`: which of two colours a point of the disc has.

Shapes: m images, R pixels per side. A pattern maps (u, v), the coordinates of the disc turned at
random, (m, R, R) each and about 1 at its rim, to (m, R, R) booleans. Its third argument `free`
holds three uniform numbers per image, (m, 3, 1, 1): two phases, and the size within its range.
Only arithmetic that every machine rounds alike is used; each pattern covers about half the disc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Booleans = NDArray[np.bool_]
Pattern = Callable[[Floats, Floats, Floats], Booleans]


def _half(position: Floats, share: float = 0.5) -> Booleans:
    """Whether the fractional part lies below `share`."""
    return position - np.floor(position) < np.float32(share)


def _period(free: Floats, typical: float) -> Floats:
    return np.float32(typical) * (np.float32(0.85) + np.float32(0.3) * free[:, 2])


def _wide_stripes(u: Floats, _: Floats, free: Floats) -> Booleans:
    return _half(u / _period(free, 0.8) + free[:, 0])


def _fine_stripes(u: Floats, _: Floats, free: Floats) -> Booleans:
    return _half(u / _period(free, 0.3) + free[:, 0])


def _checker(u: Floats, v: Floats, free: Floats) -> Booleans:
    period = _period(free, 0.6)
    return _half(u / period + free[:, 0]) ^ _half(v / period + free[:, 1])


def _rings(u: Floats, v: Floats, free: Floats) -> Booleans:
    return _half(np.sqrt(u * u + v * v) / _period(free, 0.45) + free[:, 0])


def _sunburst(u: Floats, v: Floats, _: Floats) -> Booleans:
    """Twelve sectors: the sign of the imaginary part of (u + iv)^6."""
    square, product = u * u - v * v, 2 * u * v  # (u + iv)^2
    cube_imaginary = product * (3 * square * square - product * product)
    return np.asarray(cube_imaginary > 0, dtype=np.bool_)


def _dots(u: Floats, v: Floats, free: Floats) -> Booleans:
    period = _period(free, 0.5)
    a, b = u / period + free[:, 0], v / period + free[:, 1]
    a, b = a - np.floor(a) - np.float32(0.5), b - np.floor(b) - np.float32(0.5)
    return np.asarray(a * a + b * b < np.float32(0.37 * 0.37), dtype=np.bool_)


def _solid(u: Floats, _: Floats, __: Floats) -> Booleans:
    return np.ones(u.shape, dtype=np.bool_)


def _zigzag(u: Floats, v: Floats, free: Floats) -> Booleans:
    period = _period(free, 0.5)
    fraction = v / (period * np.float32(1.2)) + free[:, 1]
    fraction = fraction - np.floor(fraction)
    return _half(u / period + free[:, 0] + np.abs(2 * fraction - 1))


def _grid_lines(u: Floats, v: Floats, free: Floats) -> Booleans:
    period = _period(free, 0.5)
    return _half(u / period + free[:, 0], 0.28) | _half(v / period + free[:, 1], 0.28)


def _two_tone(u: Floats, _: Floats, free: Floats) -> Booleans:
    return u < np.float32(0.2) * (free[:, 0] - np.float32(0.5))


PATTERNS: dict[str, Pattern] = {
    "wide stripes": _wide_stripes,
    "fine stripes": _fine_stripes,
    "checker": _checker,
    "rings": _rings,
    "sunburst": _sunburst,
    "dots": _dots,
    "solid": _solid,
    "zigzag": _zigzag,
    "grid": _grid_lines,
    "two-tone": _two_tone,
}
