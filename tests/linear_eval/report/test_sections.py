"""The page in a real browser. Run: pytest tests/linear_eval/report/test_sections.py.

Needs playwright and a Chromium of the system: apt-get install chromium.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from linear_eval.cli import main
from tests.linear_eval.report.conftest import RUNS

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM or importlib.util.find_spec("playwright") is None,
    reason="no Chromium, or no playwright: apt-get install chromium, pip install playwright",
)
SECTIONS = ["verdict", "numbers", "curves", "classes", "confusions", "disagreement"]
SECTIONS += ["neighbours", "map", "again"]


@pytest.fixture(scope="module")
def address(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "page.html"
    given = [str(judged / name) for name in RUNS]
    assert main(["report", *given, "--output", str(path)]) == 0
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


@contextmanager
def shown(browser: Any, address: str, *, width: int = 1400, theme: str = "light") -> Iterator[Any]:
    """The page; fails where it says anything on the console or asks for anything."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(address)
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_every_section_fits_in_both_themes(
    browser: Any, address: str, width: int, theme: str
) -> None:
    with shown(browser, address, width=width, theme=theme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for name in SECTIONS:
            box = page.locator(f"section#{name}").bounding_box()
            assert box["height"] > 60, name
            assert box["width"] <= width, name
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        is_dark = int(paper.removeprefix("rgb(").split(",")[0]) < 128
        assert is_dark == (theme == "dark")
        page.get_by_role("button", name=f"Use the {'light' if is_dark else 'dark'} theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_pointing_at_the_map_shows_a_thumbnail(browser: Any, address: str) -> None:
    with shown(browser, address) as page:
        point = page.locator("#map-svg circle").nth(3)
        point.scroll_into_view_if_needed()
        assert page.locator("#tip").is_hidden()
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        thumb = page.locator("#tip .thumb")
        assert thumb.is_visible()
        assert thumb.evaluate("e => getComputedStyle(e).backgroundImage").startswith('url("data:')
        assert page.locator("#tip").inner_text().strip()
        page.mouse.move(2, 2)
        assert page.locator("#tip").is_hidden()


def test_the_keys_move_over_map_and_curves(browser: Any, address: str) -> None:
    with shown(browser, address) as page:
        page.locator("#map-svg").focus()
        before = page.locator("#map-card").inner_text()
        for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
            page.keyboard.press(key)
        assert page.locator("#map-svg circle.here").count() == 1
        moved = page.locator("#map-card").inner_text()
        assert before
        assert moved
        chart = page.locator("svg.chart").first
        chart.focus()
        page.keyboard.press("ArrowRight")
        assert "epoch 0.5" in page.locator("#tip").inner_text()
        assert "4.9" in page.locator("#tip").inner_text()
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()


def test_another_projection_and_one_class_alone(browser: Any, address: str) -> None:
    with shown(browser, address) as page:
        buttons = page.locator("[data-layout]")
        where = "[...document.querySelectorAll('#map-svg circle')].map(c => c.getAttribute('cx'))"
        before = page.evaluate(where)
        buttons.last.click()
        assert (page.evaluate(where) != before) == (buttons.count() > 1)
        page.locator("[data-class]").first.click()
        dim = page.locator("#map-svg circle.dim").count()
        assert dim == page.locator("#map-svg circle").count() * 2 // 3
        page.locator("[data-class]").first.click()
        assert page.locator("#map-svg circle.dim").count() == 0


def test_a_class_called_script_is_a_word(browser: Any, address: str) -> None:
    with shown(browser, address) as page:
        names = page.locator("#classes .name").all_inner_texts()
        assert "<script>" in names
        assert page.locator("img[src='x']").count() == 0


def test_everything_is_reached_by_the_tab_key(browser: Any, address: str) -> None:
    with shown(browser, address) as page:
        reached = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.id || document.activeElement.tagName")
            )
        assert {"theme", "map-svg", "svg", "BUTTON", "SUMMARY", "A"} <= reached


def test_it_prints_light_and_without_its_buttons(browser: Any, address: str) -> None:
    with shown(browser, address, theme="dark") as page:
        page.emulate_media(media="print")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        assert page.locator("#theme").is_hidden()
        assert page.locator("section#map").is_visible()
