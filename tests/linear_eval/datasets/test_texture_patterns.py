"""The ten patterns, each against what its name says."""

import numpy as np
import pytest

from linear_eval.datasets.texture_patterns import PATTERNS, Booleans

SIZE = 200
TICKS = (np.arange(SIZE, dtype=np.float32) + 0.5) * (2 / SIZE) - 1


def drawn(name: str, phase: float = 0.3, size: float = 0.5) -> Booleans:
    v, u = np.meshgrid(TICKS, TICKS, indexing="ij")
    free = np.array([phase, 0.6, size], dtype=np.float32).reshape(1, 3, 1, 1)
    pattern = PATTERNS[name](u[None], v[None], free)
    assert pattern.dtype == np.bool_
    assert pattern.shape == (1, SIZE, SIZE)
    return pattern.reshape(SIZE, SIZE)


def changes(line: Booleans) -> int:
    """How often the colour changes along a line."""
    return int((line[1:] != line[:-1]).sum())


@pytest.mark.parametrize("name", [name for name in PATTERNS if name != "solid"])
@pytest.mark.parametrize("phase", [0.0, 0.37, 0.99])
@pytest.mark.parametrize("size", [0.0, 0.99])
def test_each_colour_covers_about_half(name: str, phase: float, size: float) -> None:
    assert 0.35 < drawn(name, phase, size).mean() < 0.65


def test_solid_has_one_colour() -> None:
    assert drawn("solid").all()


def test_stripes_change_along_one_axis_only_and_fine_ones_more_often() -> None:
    wide, fine = drawn("wide stripes"), drawn("fine stripes")
    for stripes in (wide, fine):
        assert (stripes == stripes[:1]).all()
    assert 4 <= changes(wide[0]) <= 6
    assert 12 <= changes(fine[0]) <= 15


def test_two_tone_changes_once() -> None:
    pattern = drawn("two-tone")
    assert (pattern == pattern[:1]).all()
    assert changes(pattern[0]) == 1


def test_a_checker_is_the_exclusive_or_of_two_stripes() -> None:
    pattern = drawn("checker")
    assert ((pattern ^ pattern[:1]) == (pattern[:, :1] ^ pattern[:1, :1])).all()
    assert changes(pattern[0]) > 4
    assert changes(pattern[:, 0]) > 4


def test_rings_depend_on_the_radius_and_sectors_on_the_angle() -> None:
    v, u = np.meshgrid(TICKS, TICKS, indexing="ij")
    rings, sunburst = drawn("rings"), drawn("sunburst")
    for pattern in (rings, sunburst):
        assert (pattern == pattern[::-1, ::-1]).all()
    assert (rings == rings.T).all()
    assert changes(rings[SIZE // 2, SIZE // 2 :]) in (3, 4, 5)
    assert (sunburst == (np.sin(6 * np.arctan2(v, u)) > 0)).all()


def test_dots_are_round_and_grid_lines_straight() -> None:
    grid = drawn("grid")
    lines = np.all(grid, axis=0)  # columns inside a line
    assert 0.2 < lines.mean() < 0.36
    assert (grid == (lines[None, :] | np.all(grid, axis=1)[:, None])).all()
    dots = drawn("dots")
    assert not dots.all(0).any()
    assert not dots.all(1).any()
    assert dots.any(0).mean() < 0.85


def test_a_zigzag_goes_as_far_back_as_forth() -> None:
    pattern = drawn("zigzag")
    edges = [int(np.argmax(~row[:-1] & row[1:])) for row in pattern]
    steps = np.diff(edges)
    forth, back = ((steps > 0) & (steps < 10)).sum(), ((steps < 0) & (steps > -10)).sum()
    assert 0.5 < forth / back < 2
