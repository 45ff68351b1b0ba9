"""Run: pytest tests/linear_eval/report/test_embedding_map.py."""

import numpy as np
import torch

from linear_eval.report.embedding_map import pca


def test_pca_is_that_of_the_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(40, 6, generator=generator) * torch.tensor([5.0, 3, 1, 1, 1, 1])
    places, share = pca(vectors)
    centred = vectors.double().numpy() - vectors.double().numpy().mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    expected = centred @ directions[:, ::-1][:, :2]
    for column in range(2):
        sign = np.sign(places[:, column] @ expected[:, column])
        assert np.allclose(places[:, column], sign * expected[:, column], atol=1e-4)
    assert np.isclose(share, values[-2:].sum() / values.sum())


def test_equal_features_have_a_place_as_well() -> None:
    places, share = pca(torch.ones(5, 4))
    assert np.isfinite(places).all()
    assert share == 0.0
