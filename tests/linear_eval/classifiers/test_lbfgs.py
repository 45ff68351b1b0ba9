from typing import Any

import torch
from torch import Tensor

from linear_eval.classifiers.lbfgs import Evaluate, Memory, minimise


def quadratics(problems: int, unknowns: int) -> tuple[Evaluate, Tensor, list[list[int]]]:
    """Problems of rising condition, their minima, and a list of which are evaluated when."""
    generator = torch.Generator().manual_seed(0)
    minima = torch.randn(problems, unknowns, generator=generator)
    curvature = torch.stack(
        [torch.logspace(0, number, unknowns) for number in range(problems)]
    ) / torch.tensor([1.0, 50.0, 0.01])[:problems, None]  # fmt: skip
    seen: list[list[int]] = []

    def evaluate(points: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(numbers.tolist())
        away = points - minima[numbers]
        slope = curvature[numbers] * away
        return (slope * away).sum(dim=1, dtype=torch.float64) / 2, slope

    return evaluate, minima, seen


def descend(evaluate: Evaluate, start: Tensor, **settings: Any) -> Tensor:
    memory = settings.pop("memory", None) or Memory(len(start), start.device)
    return minimise(evaluate, start, memory=memory, **settings)


def test_every_problem_reaches_its_own_minimum() -> None:
    evaluate, minima, _ = quadratics(3, 12)
    found = descend(evaluate, torch.zeros(3, 12), tolerance=1e-5, max_iterations=300)
    assert torch.allclose(found, minima, atol=1e-3)


def test_a_problem_that_has_ended_is_not_evaluated_again_and_disturbs_no_other() -> None:
    evaluate, _, seen = quadratics(3, 12)
    together = descend(evaluate, torch.zeros(3, 12), tolerance=1e-4, max_iterations=300)
    last = [max(n for n, numbers in enumerate(seen) if problem in numbers) for problem in range(3)]
    assert last[0] < last[2]
    for problem in range(3):
        alone = descend(
            lambda points, numbers, p=problem: evaluate(points, numbers + p),  # type: ignore[misc]
            torch.zeros(1, 12),
            tolerance=1e-4,
            max_iterations=300,
        )
        assert torch.allclose(alone[0], together[problem], atol=1e-6)


def test_a_step_that_leads_uphill_is_shortened() -> None:
    values: list[float] = []

    def valley(points: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        value = (1 + (40 * (points - 1)).square()).sqrt()  # as good as |40 (x - 1)|
        values.append(float(value))
        return value[:, 0].double(), 1600 * (points - 1) / value

    found = descend(valley, torch.tensor([[1.2]]), tolerance=1e-3, max_iterations=100)
    assert values[1] > values[0]
    assert abs(float(found) - 1) < 1e-4


def test_the_number_of_iterations_is_bounded() -> None:
    evaluate, _, seen = quadratics(3, 12)
    descend(evaluate, torch.zeros(3, 12), tolerance=1e-30, max_iterations=4)
    assert len(seen) == 5


def test_what_a_descent_learnt_serves_a_problem_of_other_curvature() -> None:
    evaluate, minima, seen = quadratics(2, 12)

    def lifted(points: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = evaluate(points, 0 * numbers + 1)  # the second problem, twice
        lift = torch.tensor([0.0, 3.0])[numbers, None]
        return value + (lift / 2 * points.square()).sum(dim=1), slope + lift * points

    settings: dict[str, Any] = {"tolerance": 1e-5, "max_iterations": 300}
    memory = Memory(2, minima.device)
    start = descend(evaluate, torch.zeros(2, 12), memory=memory, **settings)[1:].expand(2, -1)
    del seen[:]
    known = memory.of(1, 2)
    known.shift(torch.tensor([0.0, 3.0])[:, None].expand(-1, 12))
    found = descend(lifted, start, memory=known, **settings)
    with_memory = len(seen)
    afresh = descend(lifted, start, **settings)
    assert with_memory < len(seen) - with_memory
    assert torch.allclose(found, afresh, atol=1e-3)
    curvature = torch.logspace(0, 1, 12) / 50
    assert torch.allclose(found[1], curvature * minima[1] / (curvature + 3), atol=1e-4)


def test_a_problem_that_ended_before_the_last_one_is_forgotten() -> None:
    evaluate, minima, _ = quadratics(3, 12)
    memory = Memory(3, minima.device)
    descend(evaluate, torch.zeros(3, 12), memory=memory, tolerance=1e-4, max_iterations=300)
    assert memory.of(2, 1).pairs
    assert not memory.of(0, 1).pairs


def test_a_descent_takes_a_step_from_where_the_gradient_is_small() -> None:
    evaluate, minima, _ = quadratics(1, 12)
    start = minima + 1e-4
    found = descend(evaluate, start, tolerance=1e-3, max_iterations=300)
    assert (found - minima).abs().max() < 0.1 * (start - minima).abs().max()
