import torch
from torch import Tensor

from linear_eval.lbfgs import Evaluate, minimise


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


def test_every_problem_reaches_its_own_minimum() -> None:
    evaluate, minima, _ = quadratics(3, 12)
    found = minimise(evaluate, torch.zeros(3, 12), tolerance=1e-5, max_iterations=300)
    assert torch.allclose(found, minima, atol=1e-3)


def test_a_problem_that_has_ended_is_not_evaluated_again_and_disturbs_no_other() -> None:
    evaluate, _, seen = quadratics(3, 12)
    together = minimise(evaluate, torch.zeros(3, 12), tolerance=1e-4, max_iterations=300)
    last = [max(n for n, numbers in enumerate(seen) if problem in numbers) for problem in range(3)]
    assert last[0] < last[2]
    for problem in range(3):
        alone = minimise(
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

    found = minimise(valley, torch.tensor([[1.2]]), tolerance=1e-3, max_iterations=100)
    assert values[1] > values[0]
    assert abs(float(found) - 1) < 1e-4


def test_the_number_of_iterations_is_bounded() -> None:
    evaluate, _, seen = quadratics(3, 12)
    minimise(evaluate, torch.zeros(3, 12), tolerance=1e-30, max_iterations=4)
    assert len(seen) == 5
