import math

import pytest
import torch
from torch import Tensor

from linear_eval.evaluators.choosing import (
    JudgedLogits,
    Round,
    choose,
    edge_warning,
    judging_rounds,
)
from linear_eval.features.table import FeatureTable, FeatureTables
from linear_eval.system.errors import InputError


def table(labels: list[int], name: str) -> FeatureTable:
    ids = tuple(f"{name} {i}" for i in range(len(labels)))
    features = torch.arange(2.0 * len(labels)).view(-1, 2)
    return FeatureTable(features=features, labels=torch.tensor(labels), ids=ids)


MANY = [0, 1] * 60


def test_the_holdout_judges_where_images_are_many() -> None:
    train, holdout = table(MANY, "train"), table([0, 1, 1], "holdout")
    [only] = judging_rounds([train, holdout])
    assert only.fitted_on == (train,)
    assert only.judged_on is holdout


@pytest.mark.parametrize("with_holdout", [False, True])
def test_few_images_are_judged_in_five_folds_each_once_by_a_fit_without_it(
    with_holdout: bool,
) -> None:
    train = table([0] * 40 + [1] * 10 + [2] * 2, "train")
    holdout = table([0, 1] * 4, "holdout") if with_holdout else None
    rounds = judging_rounds([train, holdout] if holdout else [train])
    assert len(rounds) == 5
    everyone = [*train.ids, *(holdout.ids if holdout else ())]
    assert sorted(name for each in rounds for name in each.judged_on.ids) == sorted(everyone)
    for each in rounds:
        fitted = [name for part in each.fitted_on for name in part.ids]
        assert sorted([*fitted, *each.judged_on.ids]) == sorted(everyone)
        # stratified: a fifth of every class, to one image
        for label, count in zip(
            *torch.cat([t.labels for t in (train, holdout) if t]).unique(return_counts=True),
            strict=True,
        ):
            found = int((each.judged_on.labels == label).sum())
            assert math.floor(count / 5) <= found <= math.ceil(count / 5)


def test_folds_keep_rows_together_and_do_not_depend_on_the_order() -> None:
    train = table([0, 1, 2] * 9, "train")
    order = torch.randperm(27, generator=torch.Generator().manual_seed(0))
    first, second = judging_rounds([train]), judging_rounds([train.select(order)])
    for one, other in zip(first, second, strict=True):
        assert set(one.judged_on.ids) == set(other.judged_on.ids)
        for part in (one.judged_on, *one.fitted_on, other.judged_on):
            for name, features, label in zip(part.ids, part.features, part.labels, strict=True):
                row = int(name.split()[1])
                assert torch.equal(features, train.features[row])
                assert label == train.labels[row]


def fixed(logits: Tensor, at_once: int = 2) -> JudgedLogits:
    return list(logits.split(at_once, dim=2))


def test_the_most_right_wins_then_the_lower_loss_and_never_what_diverged() -> None:
    train, holdout = table(MANY, "train"), table([0, 0, 1], "holdout")
    good = torch.tensor([[1.0, 1.0, -1.0], [0.0, 0.0, 0.0]])  # (C, m)
    sure, wrong = 5 * good, -good
    diverged = torch.full_like(good, math.nan)  # answers 0: two of three right
    for candidates, best in [
        ((wrong, good), 1),
        ((good, sure), 1),
        ((sure, good), 0),
        ((diverged, wrong), 1),
    ]:
        logits = torch.stack(candidates, dim=1)
        choice = choose([train, holdout], 2, lambda each, logits=logits: fixed(logits))  # type: ignore[misc]
        assert choice.index == best
        assert choice.judged_on == "hold-out"
    assert choice.top1 == 0


def test_folds_add_up_their_right_answers() -> None:
    train = table([0, 1] * 10, "train")

    def answers(each: Round) -> JudgedLogits:
        first = torch.stack(
            [
                torch.ones(len(each.judged_on.labels)),
                torch.zeros(1).expand(len(each.judged_on.labels)),
            ]
        )
        right = torch.nn.functional.one_hot(each.judged_on.labels, 2).T.float()
        return fixed(torch.stack([first, right], dim=1))

    choice = choose([train], 2, answers)
    assert (choice.index, choice.top1, choice.judged_on) == (1, 100, "5 folds of train")


def test_many_images_without_a_holdout_are_refused() -> None:
    for holdout in (None, table([0], "holdout").select(torch.tensor([], dtype=torch.int64))):
        with pytest.raises(InputError, match=r"^data\.holdout: .*set data\.holdout=0\.1"):
            tables = FeatureTables(
                train=table(MANY, "train"), holdout=holdout, test=table([0], "t")
            )
            judging_rounds(tables.whole)


def test_only_a_choice_at_the_edge_of_a_grid_warns() -> None:
    assert edge_warning("learning rate", 1.0, [0.1, 1.0, 10.0]) is None
    assert edge_warning("learning rate", 1.0, [1.0]) is None
    for edge in (0.1, 10.0):
        assert f"learning rate {edge:g} is at the edge" in str(
            edge_warning("learning rate", edge, [0.1, 1.0, 10.0])
        )
