"""Arms differ in what they vary, and in nothing else."""

from typing import Any

import pytest

from linear_eval.system.errors import ConfigError
from ssl_bf.study.arms import open_arms
from ssl_bf.study.study_file import load_study


def arms_with(*overrides: str, none: str = "relation.name=none", base: str = "quickstart") -> Any:
    arms = f"arms=[{{name: none, overrides: [{none}]}}, {{name: batchformer}}]"
    contrast = "contrasts=[{arm: batchformer, against: none, margin: 1}]"
    return open_arms(load_study("quickstart", [arms, contrast, f"base={base}", *overrides]).value)


def test_arms_share_all_but_their_overrides_and_leave_the_seeds_to_the_study() -> None:
    none, batchformer = arms_with("epochs=3")
    different = {
        key.partition(".")[0]
        for key in {**none.settings, **batchformer.settings}
        if none.settings.get(key) != batchformer.settings.get(key)
    }
    assert different == {"relation"}
    assert none.config.epochs == batchformer.config.epochs == 3
    assert not {"seed", "data.seed"} & none.settings.keys()
    assert none.seed_overrides(4) == ["seed=4", "data.seed=4"]
    assert any("dropped from the file" in note for note in none.notes)


def test_data_that_are_not_drawn_take_no_seed() -> None:
    [arm, _] = arms_with("data.root=nowhere", base="moco_v2_cifar10", none="method.momentum=0.9")
    assert arm.seed_overrides(4) == ["seed=4"]


@pytest.mark.parametrize(
    ("none", "overrides", "said"),
    [
        ("relation.name=batchformer", [], "arms: none and batchformer differ in nothing"),
        ("seed=3", [], "arms: none: seed is set by seeds; leave it out"),
        ("data.seed=3", [], "arms: none: data.seed is set by seeds; leave it out"),
        ("epochs=3", [], "arms: none: epochs is set by budget"),
        ("speed.threads=1", [], "arms: none: speed.threads is set by base_overrides, as all arms"),
        ("batch_size=64", [], "has another batch_size than none, so its steps are not the same"),
        ("data.train_images=64", [], "has another data.train_images than none"),
        ("relation.had=3", [], "arms: none: relation.had: no such key"),
        ("relation.name=none", ["sedes=[1]"], "sedes: no such key of a study, nor of its base"),
        ("relation.name=none", ["sedes=[1]"], "Did you mean 'seeds'?"),
        ("relation.name=none", ["seed=1"], "seed: is set by the study's seeds; set that"),
        ("relation.name=none", ["run.directory=x"], "run.directory: is set by the study's direct"),
        ("relation.name=none", ["base=nothing"], "arms: none: nothing: no such config"),
    ],
)
def test_a_mistake_is_one_line_that_names_arm_and_key(
    none: str, overrides: list[str], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        arms_with(*overrides, none=none)
    assert said in str(refused.value)


def test_arms_may_differ_in_their_batch_where_seconds_count() -> None:
    assert len(arms_with("budget.rule=seconds", none="batch_size=64")) == 2
