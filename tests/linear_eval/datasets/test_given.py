"""A configuration of images that a Python program handed in."""

from dataclasses import asdict

import pytest
import torch

from linear_eval.datasets import TexturesConfig
from linear_eval.datasets.given import GivenConfig, GivenImages
from linear_eval.strict_config.reader import to_yaml
from linear_eval.system.errors import InputError

SPLIT = TexturesConfig(train_images=20).open_train()
ASKED = GivenConfig(fingerprint="f", holdout=0.2)


def test_a_configuration_alone_says_where_the_images_come_from() -> None:
    for opening in (ASKED.open_train, ASKED.open_test):
        with pytest.raises(InputError, match="hand them in again from Python"):
            opening()


def test_images_are_no_keys() -> None:
    given = GivenImages(ASKED, SPLIT)
    assert given.open_train() is SPLIT
    assert to_yaml(given) == to_yaml(ASKED)
    assert asdict(given) == asdict(ASKED)
    with pytest.raises(InputError, match="Python program"):
        given.open_test()
    assert GivenImages(ASKED, SPLIT, SPLIT.select(torch.tensor([1]))).open_test().ids == (
        SPLIT.ids[1],
    )
