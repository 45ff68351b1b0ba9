"""The command on real small inputs. Run: pytest tests/linear_eval/report/test_page.py."""

import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from linear_eval.cli import main
from tests.linear_eval.report.conftest import CLASSES, RUNS

SECTIONS = {"verdict", "numbers", "curves", "classes", "confusions", "disagreement"}
SECTIONS |= {"neighbours", "map", "again"}


class Parts(HTMLParser):
    """The ids of a page's sections, all of its tags, and what they load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag == "section":
            self.ids.add(str(found["id"]))
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "data")]
        assert not any(name.startswith("on") for name in found), (tag, attrs)

    def handle_data(self, data: str) -> None:
        self.words += data


def page(*arguments: object) -> Parts:
    """The page that the command writes; it must exit with 0."""
    given = [str(each) for each in arguments]
    assert main(["report", *given]) == 0
    return Parts(Path(given[given.index("--output") + 1]).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Parts, str]:
    """The page of both runs and the results, parsed and as text."""
    output = tmp_path_factory.mktemp("page") / "page.html"
    parts = page(*(judged / name for name in RUNS), "--output", output)
    return parts, output.read_text(encoding="utf-8")


def test_every_section_is_there_and_nothing_is_loaded(whole: tuple[Parts, str]) -> None:
    parts, text = whole
    assert parts.ids == SECTIONS
    assert {load for load in parts.loads if not load.startswith(("data:", "#"))} == set()
    assert "@import" not in text
    assert "url(" not in text.replace("url(${", "")
    assert len(text) < 5 * 2**20


def test_names_from_files_are_shown_as_such(whole: tuple[Parts, str]) -> None:
    parts, text = whole
    for name in (*CLASSES, RUNS[0], "<i>2"):
        assert name in parts.words
    # the two scripts of the page, and its data; no tag from a name
    assert parts.tags.count("script") == 2
    assert not {"i", "u", "em", "s"} & set(parts.tags)
    assert "<b>without" not in text
    assert "onerror" in html.unescape(text)


def test_the_page_names_no_place_of_the_machine(whole: tuple[Parts, str], judged: Path) -> None:
    assert str(judged) not in whole[1]
    assert str(judged.parent) not in html.unescape(whole[1])
    assert "data.root=FOLDER" in whole[1]


def test_the_verdict_compares_with_the_pretrained_baseline(
    whole: tuple[Parts, str], judged: Path
) -> None:
    found = json.loads((judged / RUNS[1] / "results.json").read_text())
    own = found["metrics"]["knn/k=20/top1"]
    other = found["baselines"][f"title of {RUNS[0]}"]["knn/k=20/top1"]
    points = f"{own - other:+.1f}".replace("-", "\N{MINUS SIGN}")
    assert f"{points} points of k-NN (k=20) against title of {RUNS[0]}" in whole[0].words
    assert f"{own:.1f} %" in whole[0].words


def test_without_images_the_page_says_so_and_shows_the_rest(judged: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(judged / RUNS[1], moved)
    config = (moved / "config.yaml").read_text().replace(str(judged / "data"), "/nowhere/data")
    (moved / "config.yaml").write_text(config)
    parts = page(moved, "--output", tmp_path / "a.html")
    assert parts.ids == SECTIONS - {"neighbours", "map"}
    assert "no images are shown" in parts.words
    assert "/nowhere" not in (tmp_path / "a.html").read_text()
    found = page(moved, "--output", tmp_path / "b.html", "--data-root", judged / "data")
    assert found.ids == SECTIONS
    assert "img" not in page(moved, "--output", tmp_path / "c.html", "--no-images").tags


def test_other_images_than_those_judged_are_not_shown(judged: Path, tmp_path: Path) -> None:
    shutil.copytree(judged / "data", tmp_path / "data")
    (tmp_path / "data" / "test" / CLASSES[0] / "0.png").rename(tmp_path / "gone.png")
    parts = page(
        judged / RUNS[1], "--output", tmp_path / "a.html", "--data-root", tmp_path / "data"
    )
    assert "map" in parts.ids  # the run's own config still leads to the right ones
    results = tmp_path / "results.json"
    for name in ("results.json", "results.per_image.safetensors"):
        shutil.copy(judged / RUNS[1] / name, tmp_path)
    parts = page(results, "--output", tmp_path / "b.html", "--data-root", tmp_path / "data")
    assert "others than those judged" in parts.words
    assert parts.ids == SECTIONS - {"neighbours", "map", "curves"}


def test_a_run_without_results_has_its_curves(judged: Path, tmp_path: Path) -> None:
    parts = page(judged / RUNS[0], "--output", tmp_path / "a.html")
    assert parts.ids == {"verdict", "curves", "again"}
    assert "finished at step 10, loss 4.000, k-NN monitor 50.0 %." in parts.words
    assert "the queue starts with random directions" in parts.words
    assert "(shaded: 2 steps)" in parts.words


def test_a_study_and_a_verdict_have_their_sections(
    study: Path, worth: Path, tmp_path: Path
) -> None:
    parts = page(study, worth, "--output", tmp_path / "a.html")
    assert parts.ids == {"verdict", "study", "worth", "again"}
    assert "<em>Pretraining pays</em> below 40" in parts.words
    assert "stated after the first run" in parts.words
    for said in ("<s>pixels", "<u>The noise is", "The images", "12 images of <u>cats"):
        assert said in parts.words
    assert "\N{MINUS SIGN}1.0 to +5.0" in parts.words
    assert "What was tried" not in parts.words
    assert "+0.5 [\N{MINUS SIGN}0.3 to +1.3]" in parts.words
    assert not {"em", "u", "s"} & set(parts.tags)


def test_tables_and_curves_are_written_as_files(judged: Path, study: Path, tmp_path: Path) -> None:
    tables = [tmp_path / f"t.{end}" for end in ("csv", "md", "tex")]
    curves = [tmp_path / f"c.{end}" for end in ("csv", "png", "pdf")]
    options = [f"--tables={path}" for path in tables] + [f"--curves={path}" for path in curves]
    page(
        *(judged / n for n in RUNS), study, "--output", tmp_path / "a.html", *options, "--no-images"
    )
    rows = list(csv.DictReader(tables[0].open()))
    found = json.loads((judged / RUNS[1] / "results.json").read_text())
    own = {r["metric"]: float(r["value"]) for r in rows if r["name"] == f"title of {RUNS[1]}"}
    assert own == found["metrics"]
    assert [r["low"] for r in rows if r["what"] == "contrast"] == ["-0.3"]
    assert "| title of &lt;b>without" in tables[1].read_text()
    assert r"\toprule" in tables[2].read_text()
    lines = list(csv.DictReader(curves[0].open()))
    assert {line["run"] for line in lines} == set(RUNS)
    losses = [float(line["value"]) for line in lines if line["metric"] == "loss"]
    assert losses == [5 - step / 10 for step in range(1, 11)] * 2
    assert curves[1].read_bytes()[:4] == b"\x89PNG"
    assert curves[2].read_bytes()[:4] == b"%PDF"


def test_a_page_replaces_a_page_and_nothing_else(
    judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, output = judged / RUNS[0], tmp_path / "a.html"
    page(run, "--output", output)
    page(run, "--output", output)
    output.write_text("mine")
    assert main(["report", str(run), "--output", str(output)]) == 2
    assert "is no page of this command; give another path or --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    page(run, "--output", output, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "holds neither a run"),
        (["RUN", "RUN"], "given twice"),
        (["RUN", "--output", "page.txt"], "does not end in .html"),
        (["RUN", "--tables", "t.csv"], "neither results nor a study is named"),
        (["RUN", "--tables", "t.xls"], "ends in none of .csv, .md, .tex"),
        (["STUDY", "--curves", "c.png"], "no run is named"),
        (["RUN", "--no-images", "--data-root", "d"], "--no-images shows none"),
        (["RESULTS", "--data-root", "nowhere"], "nowhere is no folder"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str],
    says: str,
    judged: Path,
    study: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    stands = {"RUN": judged / RUNS[0], "STUDY": study, "RESULTS": judged / RUNS[1]}
    given = [str(stands.get(each, each)) for each in arguments]
    assert main(["report", *given]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert list(empty.iterdir()) == []
    assert not (judged / RUNS[0] / "report.html").exists()


def test_one_page_is_made_as_another_twice(judged: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("a.html", "b.html"):
        page(judged / RUNS[1], "--output", tmp_path / name)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert re.search(r"<title>with</title>", texts[0])


def test_names_are_neither_formulas_nor_links_nor_control_characters(
    judged: Path, study: Path, tmp_path: Path
) -> None:
    found = json.loads(study.read_text())
    found["contrasts"][0]["name"] = "=cmd|'calc'!A0 [x](javascript:1) `x`"
    study.write_text(json.dumps(found))
    run = tmp_path / "run"
    shutil.copytree(judged / RUNS[0], run)
    (run / "environment.json").write_text(json.dumps({"versions": {"torch": "2\x1b[2J"}}))
    for table in ("t.csv", "t.md"):
        page(run, study, "--output", tmp_path / f"{table}.html", "--tables", tmp_path / table)
        assert "\x1b" not in (tmp_path / f"{table}.html").read_text()
    assert "contrast,'=cmd|'calc'!A0 [x]" in (tmp_path / "t.csv").read_text()
    assert "=cmd\\|'calc'!A0 \\[x](javascript:1) \\`x\\`" in (tmp_path / "t.md").read_text()
