import torch
from torch import Tensor

from ssl_bf.keyed_random import key, uniform
from ssl_bf.views.view_draws import ViewDraws

IDS = torch.tensor([4, 9, 2])


def draw(
    purpose: str = "crop", *, seed: int = 1, epoch: int = 2, view: int = 1, ids: Tensor = IDS
) -> Tensor:
    return ViewDraws(seed, epoch, view, ids).uniform(purpose, 5)


def test_numbers_are_keyed_by_seed_epoch_view_purpose_and_image() -> None:
    assert torch.equal(draw(), uniform(key(1, "views", 2, 1, "crop"), IDS, 5))
    for other in (draw(seed=2), draw(epoch=3), draw(view=2), draw("blur"), draw(ids=IDS + 1)):
        assert not (draw() == other).any()


def test_the_numbers_of_an_image_do_not_depend_on_its_batch() -> None:
    assert torch.equal(draw(ids=torch.tensor([2])), draw()[2:])
