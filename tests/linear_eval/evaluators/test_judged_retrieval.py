"""Retrieval with a ground truth against a loop over the ranked images."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from linear_eval.datasets.dataset import Judgement
from linear_eval.evaluators.judged_retrieval import evaluate_judged_retrieval
from linear_eval.features.table import FeatureTable
from linear_eval.system.errors import InputError

GALLERY = [f"image {number}" for number in range(40)]
WANTED = {
    "easy": (["easy"], ["junk", "hard"]),
    "medium": (["easy", "hard"], ["junk"]),
    "hard": (["hard"], ["junk", "easy"]),
}


GRADES = st.sampled_from(["easy", "hard", "junk", "distractor"])


def table(ids: list[str], features: torch.Tensor) -> FeatureTable:
    return FeatureTable(features, torch.full((len(ids),), -1), tuple(ids))


def judgement(**lists: list[int]) -> Judgement:
    keys = ("easy", "hard", "junk")
    return Judgement(*(frozenset(GALLERY[row] for row in lists.get(key, [])) for key in keys))


def loop(ranked: list[str], said: Judgement, difficulty: str) -> dict[str, float] | None:
    wanted, ignored = WANTED[difficulty]
    relevant = set().union(*(getattr(said, key) for key in wanted))
    skipped = set().union(*(getattr(said, key) for key in ignored))
    places = [
        place
        for place, name in enumerate(n for n in ranked if n not in skipped)
        if name in relevant
    ]
    if not places:
        return None
    area = 0.0
    for found, place in enumerate(places):
        before = 1.0 if place == 0 else found / place
        area += (before + (found + 1) / (place + 1)) / 2 / len(places)
    scores = {"map": area}
    for k in (1, 5, 10):
        depth = min(k, places[-1] + 1)
        scores[f"mp@{k}"] = sum(place < depth for place in places) / depth
    return scores


def scores_of(
    queries: torch.Tensor,
    gallery: torch.Tensor,
    names: list[str],
    judgements: dict[str, Judgement],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """The scores of `loop`, the gallery ranked by cosine, and their means in percent."""
    similarity = torch.nn.functional.cosine_similarity(
        queries.double()[:, None], gallery.double()[None], dim=2
    )
    found: dict[str, list[float]] = {}
    for said, row in zip(judgements.values(), similarity, strict=True):
        ranked = [names[place] for place in row.argsort(descending=True).tolist()]
        for difficulty in WANTED:
            for name, score in (loop(ranked, said, difficulty) or {}).items():
                found.setdefault(f"retrieval/{difficulty}/{name}", []).append(score)
    return found, {name: 100 * sum(scores) / len(scores) for name, scores in found.items()}


@pytest.mark.parametrize("memory_mib", [1, 512])
def test_every_score_equals_a_loop(memory_mib: int) -> None:
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(40, 6, generator=generator)
    queries = torch.randn(5, 6, generator=generator)
    judgements = {}
    for number in range(5):
        rows = torch.randperm(40, generator=generator).tolist()
        judgements[f"query {number}"] = judgement(
            easy=rows[: 3 * number], hard=rows[20 : 20 + 5 - number], junk=rows[30:33]
        )
    found = evaluate_judged_retrieval(
        table(list(judgements), queries), table(GALLERY, gallery), judgements, memory_mib=memory_mib
    )
    expected, means = scores_of(queries, gallery, GALLERY, judgements)
    assert found.metrics == pytest.approx(means, abs=1e-9)
    assert len(found.metrics) == 12
    assert found.notes == {"retrieval/easy/queries_left_out": 1}
    for name, scores in found.scores.items():
        asked = scores[~scores.isnan()].tolist()
        assert asked == pytest.approx(expected[name], abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_skipped_gallery_images_leave_the_scores_of_a_collection_without_them(
    data: st.DataObject,
) -> None:
    seed = data.draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    gallery = torch.randn(12, 5, generator=generator)
    queries = torch.randn(3, 5, generator=generator)
    judgements = {}
    for number in range(3):
        grades = data.draw(st.lists(GRADES, min_size=12, max_size=12))
        lists = {
            key: [row for row, grade in enumerate(grades) if grade == key]
            for key in ("easy", "hard", "junk")
        }
        judgements[f"query {number}"] = judgement(**lists)
    read = sorted(data.draw(st.sets(st.integers(0, 11), min_size=6)))
    names = [GALLERY[row] for row in read]
    _, expected = scores_of(queries, gallery[read], names, judgements)
    assume(expected)
    found = evaluate_judged_retrieval(
        table(list(judgements), queries), table(names, gallery[read]), judgements
    )
    assert found.metrics == pytest.approx(expected, abs=1e-9)
    relevant = {name for said in judgements.values() for name in said.easy | said.hard}
    unread = len(relevant - set(names))
    assert found.notes.get("retrieval/relevant_images_unread", 0) == unread


def test_junk_costs_nothing_and_a_distractor_does() -> None:
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
    query = table(["q"], torch.tensor([[1.0, 0.0]]))
    names = GALLERY[:3]
    junk = {"q": judgement(easy=[1, 2], junk=[0])}
    found = evaluate_judged_retrieval(query, table(names, gallery), junk)
    assert found.metrics["retrieval/easy/map"] == 100
    assert found.notes == {"retrieval/hard/queries_left_out": 1}
    distractor = {"q": judgement(easy=[1, 2])}
    metrics = evaluate_judged_retrieval(query, table(names, gallery), distractor).metrics
    # two trapezoids of width 1/2: from 0 to 1/2, then from 1/2 to 2/3
    assert metrics["retrieval/easy/map"] == pytest.approx(100 * (0.125 + 7 / 24))


def test_queries_with_nothing_to_find_are_refused() -> None:
    with pytest.raises(InputError, match=r"^test: none of 1 queries has an image to find"):
        evaluate_judged_retrieval(
            table(["q"], torch.eye(2)[:1]), table(GALLERY[:2], torch.eye(2)), {"q": judgement()}
        )


def test_features_that_are_not_finite_are_named() -> None:
    broken = torch.full((1, 2), float("nan"))
    with pytest.raises(InputError, match=r"^query features: 1 of 1 rows"):
        evaluate_judged_retrieval(
            table(["q"], broken), table(GALLERY[:2], torch.eye(2)), {"q": judgement(easy=[0])}
        )
