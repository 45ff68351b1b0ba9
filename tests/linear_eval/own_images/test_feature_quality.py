import math

import pytest
import torch
from torch import Tensor

from linear_eval.own_images import feature_quality
from linear_eval.own_images.feature_quality import alignment, rank_me, uniformity
from linear_eval.system.errors import InputError


def drawn(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def unit(features: Tensor) -> Tensor:
    rows: Tensor = features.double() / features.double().norm(dim=1, keepdim=True)
    return rows


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12)])
def test_rankme_is_the_published_formula(shape: tuple[int, int]) -> None:
    features = drawn(*shape) * torch.linspace(0.01, 3, shape[1]) + 0.5
    values = torch.linalg.svdvals(features.double())
    entropy = 0.0
    for value in values.tolist():
        share = value / float(values.sum()) + 1e-7
        entropy -= share * math.log(share)
    assert rank_me(features) == pytest.approx(math.exp(entropy), rel=1e-6)


def test_rankme_of_orthonormal_rows_is_their_number() -> None:
    rows = torch.linalg.qr(drawn(30, 30))[0][:9]
    assert rank_me(rows) == pytest.approx(9, abs=1e-3)
    assert rank_me(rows.repeat(50, 1)) == pytest.approx(9, abs=1e-2)


def test_rankme_of_constant_features_is_one_at_any_scale() -> None:
    for scale in (1e-30, 1.0, 1e30):
        assert rank_me(torch.full((20, 10), scale)) == pytest.approx(1, abs=1e-4)


def test_rankme_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = drawn(50, 6)
    whole = rank_me(features)
    monkeypatch.setattr(feature_quality, "_AT_ONCE", 20)
    assert rank_me(features) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_is_the_mean_distance_of_the_unit_features(alpha: float) -> None:
    first, second = drawn(20, 5), 7 * drawn(20, 5, seed=1)
    pairs = zip(unit(first), unit(second), strict=True)
    expected = sum(float((a - b).norm()) ** alpha for a, b in pairs) / 20
    assert alignment(first, second, alpha) == pytest.approx(expected, rel=1e-5)


def test_alignment_reaches_both_ends_of_its_range() -> None:
    features = drawn(20, 5)
    assert alignment(features, 3 * features) == pytest.approx(0, abs=1e-10)
    assert alignment(features, -features) == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize("entries", [2**22, 30, 1])
def test_uniformity_is_the_mean_over_all_pairs_in_any_chunks(
    entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_quality, "_AT_ONCE", entries)
    features = 3 * drawn(17, 4) + 1
    rows = unit(features)
    terms = [
        math.exp(-2 * float((rows[i] - rows[j]).square().sum()))
        for i in range(17)
        for j in range(i)
    ]
    assert uniformity(features) == pytest.approx(math.log(sum(terms) / len(terms)), rel=1e-5)


def test_uniformity_of_known_constellations() -> None:
    assert uniformity(torch.ones(30, 8)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.eye(2)) == pytest.approx(-4, rel=1e-6)  # at distance sqrt(2)
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8, rel=1e-6)
    # even on the sphere in D dimensions: exp(-4) times the mean of exp(4 cos), about 8 / D more
    assert uniformity(drawn(1500, 512)) == pytest.approx(-4 + 8 / 512, abs=5e-3)


def test_a_zero_feature_stays_zero() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert uniformity(features) == pytest.approx(-2)
    assert alignment(features, features) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("judge", [rank_me, uniformity, lambda x: alignment(x, x)])
def test_one_image_and_features_that_are_not_finite_are_refused(judge: object) -> None:
    assert callable(judge)
    with pytest.raises(InputError, match="data: 1 images, expected two or more"):
        judge(torch.ones(1, 3))
    broken = torch.ones(4, 3)
    broken[2, 1] = math.nan
    with pytest.raises(InputError, match=r"features: 1 of 4 rows hold NaN .* first in row 2"):
        judge(broken)


def test_features_that_are_all_zero_have_no_rank() -> None:
    with pytest.raises(InputError, match="features: all are zero"):
        rank_me(torch.zeros(4, 3))
