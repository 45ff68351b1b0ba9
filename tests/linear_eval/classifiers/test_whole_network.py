import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linear_eval.classifiers.linear_classifiers import fit_linear_classifiers
from linear_eval.classifiers.sgd_config import Hyperparameters, ProbeSgdConfig
from linear_eval.classifiers.training_rows import TrainingRows
from linear_eval.classifiers.whole_network import (
    FineTuneRecipe,
    Pretrained,
    fine_tuned,
    logits_of,
    top_classes,
)
from linear_eval.datasets import ImageSplit, TexturesConfig
from linear_eval.features.table import collect_features, frozen
from linear_eval.images.batches import EvalImages, ImageBatches
from linear_eval.images.train_views import TrainView
from linear_eval.system.errors import InputError

MEAN, STD = (0.5, 0.4, 0.6), (0.25, 0.2, 0.3)
CPU = torch.device("cpu")


class Tiny(nn.Module):
    """Too few features to tell ten textures apart without training."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(3, 16, 5, stride=2, bias=False)
        self.second = nn.Conv2d(16, 6, 5, stride=2, bias=False)
        for conv in (self.first, self.second):
            with torch.no_grad():
                conv.weight.normal_(std=0.1, generator=generator)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(6)])

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norms[0](self.first(images)))
        hidden = F.relu(self.norms[1](self.second(hidden)))
        features: Tensor = hidden.mean(dim=(2, 3))
        return features


def pretrained(seed: int = 0) -> Pretrained:
    backbone = Tiny(seed).eval().requires_grad_(False)
    return Pretrained(backbone, 6, mean=MEAN, std=STD)


def textures(count: int) -> ImageSplit:
    return TexturesConfig(train_images=count, test_images=10).open_train()


def whole(split: ImageSplit) -> ImageBatches:
    return ImageBatches(split=split, images=EvalImages(), batch_size=50)


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def tuned(start: Pretrained, split: ImageSplit, seed: int = 0, epochs: int = 3) -> nn.Module:
    recipe = FineTuneRecipe(epochs=epochs, batch_size=20)
    return fine_tuned(start, split, recipe, learning_rate=6.0, view_size=32, seed=seed)


def test_the_backbone_given_is_left_as_it_was() -> None:
    start = pretrained()
    before = tensors(start.backbone)
    network = tuned(start, textures(40))
    after = start.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in start.backbone.parameters())
    assert not any(module.training for module in start.backbone.modules())
    # the copy did learn, its BatchNorm statistics too
    copied = network[0].state_dict()  # type: ignore[index]  # a Sequential
    assert all(not torch.equal(copied[name], before[name]) for name in before)


def test_the_seed_decides_and_torchs_own_generator_is_left_alone() -> None:
    split, start = textures(40), pretrained()
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = tensors(tuned(start, split))
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = tensors(tuned(start, split)), tensors(tuned(start, split, seed=1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_training_the_backbone_too_fits_the_images_better_than_a_frozen_probe() -> None:
    split, start = textures(40), pretrained()
    with frozen(start.backbone, mean=MEAN, std=STD, device=CPU) as embed:
        table = collect_features(embed, whole(split))
    probe = fit_linear_classifiers(
        TrainingRows.of([table.features]),
        table.labels,
        ProbeSgdConfig(epochs=200),
        problems=[Hyperparameters(rate) for rate in (0.1, 1.0, 10.0)],
        num_classes=10,
    )
    [logits] = probe.in_chunks(table.features)
    frozen_top1 = (logits.argmax(dim=0) == table.labels).double().mean(dim=1).max()
    judged = logits_of(tuned(start, split, epochs=80), start, whole(split), CPU)
    tuned_top1 = (judged.features.argmax(dim=1) == judged.labels).double().mean()
    assert tuned_top1 > frozen_top1 + 0.1


def test_the_descent_is_torchs_sgd_on_the_drawn_views() -> None:
    split, start = textures(50), pretrained()
    recipe = FineTuneRecipe(epochs=2, batch_size=20, momentum=0.8, weight_decay=0.01)
    network = fine_tuned(start, split, recipe, learning_rate=1.0, view_size=24, seed=3)

    backbone, head = copy.deepcopy(start.backbone).train().requires_grad_(True), nn.Linear(6, 10)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    parameters = [*backbone.parameters(), *head.parameters()]
    solver = torch.optim.SGD(
        parameters, lr=20 / 256, momentum=0.8, nesterov=True, weight_decay=0.01
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(solver, 4)
    generator = torch.Generator().manual_seed(3)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    for epoch in range(2):
        order = torch.randperm(50, generator=generator)
        for rows in (order[:20], order[20:40]):
            view = TrainView(size=24, seed=3, epoch=epoch)
            images = torch.stack([view.apply(split.read(i), split.ids[i]) for i in rows.tolist()])
            solver.zero_grad()
            logits = head(backbone((images / 255 - mean) / std))
            F.cross_entropy(logits, split.labels[rows]).backward()
            solver.step()
            cosine.step()
    expected = nn.Sequential(backbone, head).state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-3)


def test_one_image_is_refused() -> None:
    with pytest.raises(InputError, match="1 labelled images, expected two or more"):
        tuned(pretrained(), textures(10).select(torch.tensor([3])))


def test_equal_logits_go_to_the_lower_class() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
    assert top_classes(logits, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert top_classes(logits, 9).shape == (2, 4)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": 0.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_a_recipe_out_of_range_is_refused(settings: dict[str, float], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: must be"):
        FineTuneRecipe(**settings)  # type: ignore[arg-type]  # one wrong value each
