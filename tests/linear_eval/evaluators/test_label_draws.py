import math
import statistics
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from linear_eval.evaluators.evaluation import Evaluation
from linear_eval.evaluators.label_draws import (
    LabelBudget,
    LabelDrawsConfig,
    check_draws,
    draw_rows,
    over_draws,
)
from linear_eval.system.errors import InputError

LABELS = torch.tensor([0] * 40 + [1] * 25 + [3] * 4)
IDS = tuple(f"{i}.png" for i in range(len(LABELS)))
TENTH = LabelBudget(name="10%", fraction=0.1)


def drawn_ids(budget: LabelBudget, key: str, order: Tensor | None = None) -> set[str]:
    order = torch.arange(len(IDS)) if order is None else order
    ids = [IDS[row] for row in order.tolist()]
    return {ids[row] for row in draw_rows(ids, LABELS[order], budget, key).tolist()}


def test_every_class_gives_its_rounded_share() -> None:
    rows = draw_rows(IDS, LABELS, TENTH, "0/0")
    assert Counter(LABELS[rows].tolist()) == {0: 4, 1: 3}  # 2.5 is rounded up, 0.4 down
    assert rows.tolist() == sorted(rows.tolist())
    five = draw_rows(IDS, LABELS, LabelBudget(name="n=5", per_class=5), "0/0")
    assert Counter(LABELS[five].tolist()) == {0: 5, 1: 5, 3: 4}


def test_the_draw_depends_on_the_key_and_not_on_the_order_of_images() -> None:
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
    assert drawn_ids(TENTH, "0/0") == drawn_ids(TENTH, "0/0", order)
    different = {
        frozenset(drawn_ids(TENTH, f"{seed}/{draw}")) for seed in (0, 1) for draw in (0, 1)
    }
    assert len(different) == 4


def test_more_labels_are_the_same_and_others() -> None:
    assert drawn_ids(TENTH, "0/0") < drawn_ids(LabelBudget(name="50%", fraction=0.5), "0/0")


def test_every_image_is_drawn_about_equally_often() -> None:
    half = LabelBudget(name="50%", fraction=0.5)
    times = Counter(name for draw in range(400) for name in drawn_ids(half, f"0/{draw}"))
    assert max(abs(times[name] - 200) for name in IDS[:40]) < 5 * math.sqrt(100)


def evaluation(prefix: str, top1: float, notes: dict[str, float | str]) -> Evaluation:
    return Evaluation(
        metrics={f"{prefix}/top1": top1},
        scores={f"{prefix}/top1": torch.tensor([top1 / 100, 0.0], dtype=torch.float64)},
        predictions={prefix: torch.tensor([int(top1), 0])},
        notes={f"{prefix}/{name}": note for name, note in notes.items()},
    )


def test_mean_and_spread_are_those_of_the_draws() -> None:
    config = LabelDrawsConfig(fractions=(0.1,), images_per_class=(5,), draws=3, seed=7)
    seen: list[tuple[str, int, list[int]]] = []
    top1 = [10.0, 20.0, 60.0]

    def evaluate(prefix: str, rows: Tensor, draw: int) -> Evaluation:
        seen.append((prefix, draw, rows.tolist()))
        return evaluation(prefix, top1[draw], {"decay": [0.1, 1.0, 0.1][draw], "judge": "folds"})

    found = over_draws("low_shot", config, IDS, LABELS, evaluate)
    assert [each[:2] for each in seen] == [
        (f"low_shot/{name}", draw) for name in ("10%", "n=5") for draw in range(3)
    ]
    for prefix, draw, rows in seen:
        budget = next(each for each in config.budgets if prefix.endswith(each.name))
        assert rows == draw_rows(IDS, LABELS, budget, f"7/{draw}").tolist()
    assert found.metrics == {"low_shot/10%/top1": 30.0, "low_shot/n=5/top1": 30.0}
    assert found.scores["low_shot/10%/top1"].tolist() == pytest.approx([0.3, 0.0])
    assert found.notes["low_shot/10%/spread"] == pytest.approx(statistics.stdev(top1))
    assert found.notes["low_shot/10%/images"] == 8
    assert found.notes["low_shot/10%/raised_classes"] == (
        "1 of 3 gave one image, of which 10% is none"
    )
    assert "low_shot/n=5/raised_classes" not in found.notes
    assert found.notes["low_shot/n=5/short_classes"] == 1
    assert found.notes["low_shot/10%/decay"] == "0.1, 1, 0.1"
    assert found.notes["low_shot/10%/judge"] == "folds"
    assert {key: classes.tolist() for key, classes in found.predictions.items()} == {
        f"low_shot/{name}/draw={draw}": [int(top1[draw]), 0]
        for name in ("10%", "n=5")
        for draw in range(3)
    }


def test_one_draw_has_no_spread() -> None:
    config = LabelDrawsConfig(fractions=(0.5,), draws=1)
    found = over_draws("x", config, IDS, LABELS, lambda p, rows, draw: evaluation(p, 5.0, {}))
    assert found.notes == {"x/50%/images": 35}


@pytest.mark.parametrize(
    ("settings", "labels", "said"),
    [
        ({"fractions": (0.01,)}, LABELS[:40], "low_shot: 1% of every class draws 1 of 40 train"),
        ({"images_per_class": (41,)}, LABELS, "the largest class of train has 40 images; lower it"),
    ],
)
def test_a_budget_that_cannot_be_drawn_is_refused(
    settings: dict[str, Any], labels: Tensor, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        check_draws("low_shot", LabelDrawsConfig(**settings), labels)


def test_every_class_of_a_small_data_set_gives_an_image() -> None:
    budget = LabelDrawsConfig(fractions=(0.01,)).budgets[0]
    assert [budget.of(count) for count in (1, 49, 50, 149, 150)] == [1, 1, 1, 1, 2]
    assert [budget.is_raised(count) for count in (1, 49, 50, 150)] == [True, True, False, False]
    check_draws("low_shot", LabelDrawsConfig(fractions=(0.01,)), LABELS)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"fractions": (0.0,)}, "fractions"),
        ({"fractions": (1.5,)}, "fractions"),
        ({"fractions": ()}, "fractions"),
        ({"fractions": (0.1, 0.1)}, "fractions"),
        ({"images_per_class": (0,)}, "images_per_class"),
        ({"draws": 0}, "draws"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        LabelDrawsConfig(**settings)
