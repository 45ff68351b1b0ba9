"""docs/python.md names all that the packages offer; tests/test_docs.py runs its blocks."""

from pathlib import Path

import linear_eval
import ssl_bf

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_names_all_that_is_offered() -> None:
    for module in (linear_eval, ssl_bf):
        for name in module._FROM_PYTHON:
            if name not in ("Backbone", "FinishedRun"):  # what `load` and `pretrain` give
                assert f"{module.__name__}.{name}" in PAGE or f"`{name}`" in PAGE, name
