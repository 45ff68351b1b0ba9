"""Run: pytest tests/linear_eval/strict_config/test_places.py."""

from linear_eval.strict_config.places import without_places


def test_places_are_left_out_wherever_they_stand() -> None:
    plain = {
        "root": "images",
        "other": "a/b",
        "baselines": ["pixels", "mine.safetensors"],
        "inner": {"folder": "auto", "name": "textures", "seed": 3, "home": "~"},
    }
    found = without_places(plain, ("root", "baselines", "inner.folder"), ("pixels", "auto"))
    assert found == {
        "root": "???",
        "other": "???",
        "baselines": ["pixels", "???"],
        "inner": {"folder": "auto", "name": "textures", "seed": 3, "home": "???"},
    }
