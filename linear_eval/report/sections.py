"""The sections of the page: what each shows, from what was found.

Sections that have nothing to show are absent; why is said in the notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from linear_eval.report.again import (
    config_differences,
    config_text,
    judge_command,
    pretrain_command,
    versions_of,
)
from linear_eval.report.answers import (
    MAX_CLASSES,
    PICTURES_OF_CELL,
    ClassRow,
    class_rows,
    confused_pairs,
    disagreement,
    evenly,
    metric_name,
    predictor_of,
)
from linear_eval.report.contestants import Contestants, run_colours
from linear_eval.report.curves import curve_charts, has_related
from linear_eval.report.embedding_map import embedding_map
from linear_eval.report.neighbours import neighbours_of
from linear_eval.report.page_features import open_features
from linear_eval.report.pictures import AbsentImagesError, Picture, Pictures, open_pictures
from linear_eval.report.run_files import run_names
from linear_eval.report.sources import Sources
from linear_eval.report.study_charts import label_budget_chart, study_section
from linear_eval.report.tables import Table
from linear_eval.report.verdict import Against, differences_from, verdict_of

_NUMBERS = "title verdict studies worths tables main main_table against runs curves has_related"
_ANSWERS = "predictor_name classes num_classes confusions disagreement neighbours map"
_AGAIN = "configs trained judged differences versions"
SECTIONS = tuple(f"{_NUMBERS} {_ANSWERS} {_AGAIN}".split())


@dataclass
class Page:
    """What the template is given, by the names in `SECTIONS`.

    Attributes:
        sections: what is shown.
        notes: what is to be said: on the page, which names no place, and behind that on the
            terminal.
    """

    sections: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class ImageOptions:
    """Whether images are shown, and where they are; None: as the runs' configs say."""

    shown: bool = True
    root: Path | None = None


def page_of(
    paths: Sequence[Path],
    sources: Sources,
    contestants: Contestants | None,
    tables: Sequence[Table],
    images: ImageOptions,
) -> Page:
    """Everything that there is to show.

    Args:
        paths: as named.
        sources: what was found there.
        contestants: of the results, if there are any.
        tables: of these.
        images: whether and from where.

    Raises:
        InputError: a backbone file or the folder of the images is wrong.
    """
    page = Page()
    _add_numbers(page, sources, contestants, tables)
    if contestants is not None:
        page.notes += contestants.notes
        _add_answers(page, contestants, sources, images)
    _add_how(page, sources, paths)
    return page


def _add_numbers(
    page: Page, sources: Sources, contestants: Contestants | None, tables: Sequence[Table]
) -> None:
    against: list[Against] = []
    table = None
    if contestants is not None:
        own = contestants.main.results.data["fingerprint"]
        [table] = [each for each in tables if each.rows[0].shown.results.data["fingerprint"] == own]
        against = differences_from(contestants.main, table)
    names, colours = run_names(sources.runs), run_colours(sources.runs, contestants)
    page.sections |= {
        "verdict": verdict_of(
            contestants=contestants,
            table=table,
            against=against,
            runs=sources.runs,
            studies=sources.studies,
            worths=sources.worths,
        ),
        "tables": tables,
        "main": contestants.main if contestants else None,
        "main_table": table,
        "against": against,
        "runs": list(zip(names, colours, strict=True)),
        "curves": curve_charts(sources.runs, names, colours),
        "has_related": has_related(sources.runs),
        "studies": [study_section(each) for each in sources.studies],
        "worths": [(each, label_budget_chart(each)) for each in sources.worths],
    }


def _add_answers(
    page: Page, contestants: Contestants, sources: Sources, options: ImageOptions
) -> None:
    """All that rests on answers per image, and on the images."""
    main = contestants.main
    if main.answers is None:
        return
    predictor = predictor_of(main.answers)
    pictures = _open_pictures(page, contestants, sources, options)
    page.sections["predictor_name"] = predictor and metric_name(f"{predictor}/top1")
    if predictor is None:
        page.notes.append(("no evaluator named a class: nothing by class is shown", ""))
    else:
        rows = class_rows(main, contestants.everyone, predictor)
        page.sections |= {"classes": _shortened(rows), "num_classes": len(rows)}
        test = pictures.rows_of_test if pictures else {}
        page.sections["confusions"] = [
            (pair, _shown(pictures, [test[main.answers.ids[row]] for row in pair.rows if test]))
            for pair in confused_pairs(main, predictor)
        ]
        if contestants.rival is not None:
            _add_disagreement(page, contestants, predictor, pictures)
    if pictures is not None:
        _add_neighbourhood(page, contestants, sources, pictures, predictor)


def _open_pictures(
    page: Page, contestants: Contestants, sources: Sources, options: ImageOptions
) -> Pictures | None:
    if not options.shown:
        page.notes.append(("images are left out, as was asked for", ""))
        return None
    try:
        return open_pictures(contestants.main.results, sources.runs, options.root)
    except AbsentImagesError as absent:
        page.notes.append((f"no images are shown: {absent}", absent.detail))
        return None


def _shown(pictures: Pictures | None, rows: Sequence[int]) -> list[Picture]:
    if pictures is None:
        return []
    return [pictures.of(pictures.splits.test, row) for row in rows]


def _shortened(rows: Sequence[ClassRow]) -> list[ClassRow | None]:
    """All of few classes; of many the best, None, and the worst."""
    if len(rows) <= MAX_CLASSES:
        return list(rows)
    half = MAX_CLASSES // 2
    return [*rows[:half], None, *rows[-half:]]


def _add_disagreement(
    page: Page, contestants: Contestants, predictor: str, pictures: Pictures | None
) -> None:
    assert contestants.rival is not None
    found = disagreement(contestants.rival, contestants.main, predictor)
    if found is None:
        return
    cells = {}
    for name in ("only_b", "only_a", "both", "neither"):
        ids: tuple[str, ...] = getattr(found, name)
        rows = []
        if pictures is not None:
            picked = evenly(range(len(ids)), PICTURES_OF_CELL)
            rows = [pictures.rows_of_test[ids[number]] for number in picked]
        cells[name] = (len(ids), _shown(pictures, rows))
    page.sections["disagreement"] = (found, cells)


def _add_neighbourhood(
    page: Page,
    contestants: Contestants,
    sources: Sources,
    pictures: Pictures,
    predictor: str | None,
) -> None:
    main = contestants.main
    assert main.answers is not None
    try:
        device = torch.device("cpu")
        features = open_features(main.results, sources.runs, pictures, device)
    except AbsentImagesError as absent:
        page.notes.append((f"neither neighbours nor a map are shown: {absent}", absent.detail))
        return
    if predictor is not None:
        page.sections["neighbours"] = neighbours_of(main.answers, predictor, pictures, features)
    page.sections["map"] = embedding_map(main.answers, predictor, pictures, features)


def _add_how(page: Page, sources: Sources, paths: Sequence[Path]) -> None:
    """What it takes to do it again."""
    studies = page.sections["studies"]
    names, runs = run_names(sources.runs), list(sources.runs)
    for each in studies:
        place = f"{_folder(each.study.path).name}: " if len(studies) > 1 else ""
        names += [f"{place}{arm}" for arm in each.curves.runs]
        runs += each.curves.runs.values()
    page.sections |= {
        "configs": [
            (name, config_text(run.config), pretrain_command(run))
            for name, run in zip(names, runs, strict=True)
        ],
        "trained": names,
        "judged": [
            (each.path.absolute().parent.name, config_text(each.whole["config"]), command)
            for each in sources.results
            if (command := judge_command(each)) is not None
        ],
        "differences": config_differences(runs),
        "versions": versions_of(runs, sources.results),
        "title": ", ".join(dict.fromkeys(_folder(path).name for path in paths)),
    }


def _folder(path: Path) -> Path:
    return (path if path.is_dir() else path.parent).absolute()
