"""A network of somebody's own code as a backbone, in memory and in a file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linear_eval.backbones.backbone_file import load_backbone, save_backbone
from linear_eval.backbones.own_module import info_of_module, width_of
from linear_eval.system.errors import InputError

HALF = (0.5, 0.5, 0.5)


class Net(nn.Module):
    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.register_buffer("flag", torch.tensor([True, False]))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(self.conv(images))
        return features.mean(dim=(2, 3))


class Wrong(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


class Stateful(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"x": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_its_width_is_measured_and_nothing_else_changes() -> None:
    net = Net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    info = info_of_module(net, mean=HALF, std=HALF, size=8)
    assert (info.architecture, info.feature_dim, info.image_size) == ("custom:Net", 5, 8)
    assert net.training and net.norm.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("module", "size", "says"),
    [
        (Wrong(), 8, "backbone: Wrong makes (2, 3, 8, 8) of two images, expected features"),
        (Net(), 2, "backbone: Net cannot take images (2, 3, 2, 2)"),
        (Net(), 0, "size: 0, expected"),
    ],
)
def test_what_is_no_backbone_is_refused(module: nn.Module, size: int, says: str) -> None:
    with pytest.raises(InputError) as caught:
        info_of_module(module, mean=HALF, std=HALF, size=size)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_mean_and_std_are_three_numbers() -> None:
    with pytest.raises(InputError, match="mean: "):
        info_of_module(Net(), mean=(0.5,), std=HALF, size=8)
    with pytest.raises(InputError, match="std: "):
        info_of_module(Net(), mean=HALF, std=(0.5, 0.0, 0.5), size=8)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Net]:
    net = Net()
    info = info_of_module(net, mean=HALF, std=HALF, size=8)
    save_backbone(tmp_path / "net.safetensors", net, info)
    return tmp_path / "net.safetensors", net


def test_a_file_of_it_is_read_into_a_module_like_it(saved: tuple[Path, Net]) -> None:
    path, net = saved
    other = Net()
    network, info = load_backbone(path, other)
    assert info.architecture == "custom:Net"
    assert not network.training
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert not torch.equal(other.conv.weight, net.conv.weight)  # a copy was filled


def test_without_the_module_one_line_says_what_to_do(saved: tuple[Path, Net]) -> None:
    with pytest.raises(InputError, match=r"linear_eval.load\(FILE, module=Net\(...\)\)") as caught:
        load_backbone(saved[0])
    assert "\n" not in str(caught.value)


def test_another_module_is_refused(saved: tuple[Path, Net]) -> None:
    with pytest.raises(InputError, match="not those of the module .*of another shape"):
        load_backbone(saved[0], Net(width=6))
    with pytest.raises(InputError, match="not those of the module .*missing: bias, weight"):
        load_backbone(saved[0], nn.Linear(2, 2))


def test_a_state_beyond_tensors_has_no_place_in_a_file(tmp_path: Path) -> None:
    net = Stateful()
    info = info_of_module(net, mean=HALF, std=HALF, size=8)
    with pytest.raises(InputError, match="more than tensors"):
        save_backbone(tmp_path / "net.safetensors", net, info)
    assert width_of(net, 8) == 5
