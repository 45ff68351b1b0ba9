"""What a reader of the table should know, the most important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from linear_eval.datasets.dataset import DatasetSettings
from linear_eval.datasets.domains import DomainsConfig
from linear_eval.evaluation.contestants import Contestant
from linear_eval.evaluation.row import Row
from linear_eval.evaluation.tables import SPREAD
from linear_eval.evaluators.evaluation import note_text

# Ends of keys, in this order behind all others: those may say that a number is wrong.
_SETTINGS = ("/learning_rate", "/weight_decay", "/images", "/chosen_top1", "/chosen_on")


def run_notes(rows: list[Row], skipped: Mapping[str, int]) -> list[str]:
    """Skipped images and the evaluators' notes, first those that could make a number wrong.

    Args:
        rows: in the order of the table.
        skipped: how many images of each part could not be read.
    """
    lines = [
        f"{n} {name} images could not be read and were skipped" for name, n in skipped.items() if n
    ]
    keys = dict.fromkeys(key for row in rows for key in row.notes if not key.endswith(SPREAD))
    for key in sorted(keys, key=_place):
        said = {
            row.contestant.title: note_text(key, row.notes[key]) for row in rows if key in row.notes
        }
        lines += note_lines(key, said, len(rows))
    return lines


def domain_notes(data: DatasetSettings, contestants: Sequence[Contestant]) -> list[str]:
    """A line for each backbone that may have been trained on the domain that judges."""
    if not isinstance(data, DomainsConfig):
        return []
    left_out = {
        each.title: each.pretraining_data.get("test_domain")
        for each in contestants
        if each.pretraining_data.get("name") == data.name
    }
    return [
        f"data.test_domain: {title} was trained on all domains but {domain}, and so on "
        f"{data.test_domain} if it lay in that folder; for a domain never seen set "
        f"data.test_domain={domain}"
        for title, domain in left_out.items()
        if isinstance(domain, str) and domain != data.test_domain
    ]


def read_from(rows: list[Row]) -> list[str]:
    """Which features were read from the store instead of computed."""
    return [
        f"features: read from {folder} ({row.contestant.title}: {', '.join(row.read_from)})"
        for row in rows
        for folder in dict.fromkeys(row.read_from.values())
    ]


def note_lines(key: str, said: dict[str, str], num_rows: int) -> list[str]:
    """Notes of one key by contestant; a value that all share is written once."""
    values = list(dict.fromkeys(said.values()))
    if len(values) == 1 and len(said) == num_rows:
        return [f"{key}: {values[0]}"]
    by_value = {
        value: ", ".join(who for who, own in said.items() if own == value) for value in values
    }
    if any(" " in value for value in values):  # sentences
        return [f"{key} ({who}): {value}" for value, who in by_value.items()]
    return [f"{key}: " + ", ".join(f"{value} ({who})" for value, who in by_value.items())]


def _place(key: str) -> int:
    return next((n for n, end in enumerate(_SETTINGS, 1) if key.endswith(end)), 0)
