from linear_eval.system.versions import versions


def test_versions_name_what_computes() -> None:
    assert {"linear_eval", "python", "torch", "torchvision", "numpy"} <= versions().keys()
