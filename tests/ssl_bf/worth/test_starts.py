"""Frozen weights as contestants and as starts. Run: pytest tests/ssl_bf/worth."""

from pathlib import Path

import pytest

from linear_eval.system.errors import InputError
from ssl_bf.worth.plan import Plan
from ssl_bf.worth.starts import check_frozen, starts


def test_starts_go_on_from_the_file(frozen: Path, tiny_plan: Plan) -> None:
    found, notes = starts([str(frozen)])
    assert [each.name for each in found] == [
        "moco_v2-from-frozen",
        "moco_v2+batchformer-from-frozen",
    ]
    assert notes == []
    scratch = tiny_plan.setting.pretraining(tiny_plan.candidates[0], 4, 100)
    config = tiny_plan.setting.pretraining(found[0], 4, 100)
    assert config.backbone.init == str(frozen)
    assert config.views.size == 16
    assert config.optimizer.base_learning_rate < scratch.optimizer.base_learning_rate


def test_what_is_no_backbone_is_refused(frozen: Path, tmp_path: Path) -> None:
    check_frozen([str(frozen)])
    with pytest.raises(InputError, match="--frozen: .* is named twice"):
        check_frozen([str(frozen)] * 2)
    (tmp_path / "a.safetensors").write_bytes(b"no backbone")
    with pytest.raises(InputError, match="--frozen: "):
        check_frozen([str(tmp_path / "a.safetensors")])
