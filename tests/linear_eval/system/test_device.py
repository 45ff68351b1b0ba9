import pytest
import torch

from linear_eval.system.device import choose_device
from linear_eval.system.errors import InputError


def test_the_cpu_is_always_there_and_a_missing_gpu_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("cpu") == choose_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match=r"^speed\.device: 'cuda' is not available here; set "):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
