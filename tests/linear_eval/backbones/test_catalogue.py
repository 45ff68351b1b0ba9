import sys

import pytest

from linear_eval.backbones.architectures import ARCHITECTURES
from linear_eval.backbones.catalogue import described, matching
from linear_eval.system.errors import InputError


def test_all_names_and_those_that_a_pattern_fits() -> None:
    assert matching("*") == list(ARCHITECTURES)
    assert matching("resnet18*") == ["resnet18", "resnet18_cifar", "resnet18_cifar_padding2"]
    with pytest.raises(InputError, match="xyz: fits no architecture"):
        matching("xyz")


def test_a_line_has_width_size_and_parameters() -> None:
    assert described("small_conv") == "D =  128,   32 px,   0.10M parameters"
    assert described("resnet50").split() == "D = 2048, 224 px, 23.51M parameters".split()


def test_models_of_timm_are_listed_by_pattern() -> None:
    pytest.importorskip("timm", reason="models of timm need the extra timm")
    assert "timm:tf_efficientnet_lite0" in matching("timm:*efficientnet_lite0")
    assert described("timm:test_vit").split()[3] == "160"


def test_without_timm_a_vision_transformer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "needs timm" in described("vit_tiny_patch16_224")
    with pytest.raises(InputError, match=r"ssl-bf\[timm\]"):
        matching("timm:*")
