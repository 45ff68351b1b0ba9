"""`ssl-bf relations`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linear_eval.commands.subcommand import add_parser
from linear_eval.system.errors import InputError, load_torch
from ssl_bf.commands import before_torch

if TYPE_CHECKING:
    from linear_eval.commands.subcommand import Commands
    from ssl_bf.attention.one_batch import RelatedBatch

DEFAULT_OUTPUT = "relations.png"
CHOSEN = 8  # rows, unless some are named
EXAMPLE = """\
example:
  ssl-bf relations runs/quickstart/with_batchformer

Needs the images of the run and matplotlib: pip install 'ssl-bf[report]'.
"""


def add(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_parser(
        commands,
        "relations",
        says="draw which images of a batch attend to which, and what came of it over training",
        example=EXAMPLE,
    )
    parser.add_argument("directory", type=Path, help="the run's directory")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="of speed.*, data.root and data.on_bad_image, for this time",
    )
    parser.add_argument(
        "--rows",
        type=_numbers,
        metavar="ROW,ROW",
        help="of the batch, from 0, whose attention is drawn; default: eight of the first group",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help=f"the picture; the numbers go to FILE.json; default: {DEFAULT_OUTPUT} in the run's "
        "directory, replaced where it exists",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.set_defaults(command=_relations)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}', expected whole numbers such as 0,5,9"
        ) from error


def _relations(given: argparse.Namespace) -> None:
    from ssl_bf.attention.picture import require_matplotlib

    require_matplotlib()
    before_torch.check_run(given.directory, given.overrides)
    load_torch(if_interrupted=given.if_interrupted)
    draw_relations(
        given.directory,
        given.overrides,
        rows=given.rows,
        output=given.output,
        overwrite=given.overwrite,
    )


def draw_relations(
    directory: Path,
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[int] | None = None,
    output: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Draw one batch of a run's newest checkpoint, and write the numbers beside the picture.

    Args:
        directory: of the run.
        overrides: of the keys `RESUMABLE`, for this time only.
        rows: of the batch; None: `CHOSEN` of the first group.
        output: of the picture; None: in the run's directory.
        overwrite: whether an `output` that exists is replaced; the default is in any case.

    Raises:
        InputError: no run, no checkpoint, no relation, no images, no such row, no such place.
    """
    from linear_eval.system.atomic_file import atomic_file, check_output, check_suffix
    from ssl_bf.attention.description import describe
    from ssl_bf.attention.one_batch import relate_one_batch
    from ssl_bf.attention.over_training import curves
    from ssl_bf.attention.picture import draw
    from ssl_bf.commands.resume import config_to_go_on, restored
    from ssl_bf.ranks.processes import joined_processes
    from ssl_bf.ranks.shards_of_run import saved_shards
    from ssl_bf.relations.relation import RelationSettings

    config = config_to_go_on(directory, overrides)
    if output is None:
        output, overwrite = directory / DEFAULT_OUTPUT, True
    check_suffix(output, "--output", ".png")
    numbers = output.with_suffix(".json")
    reads = {"part of the run": [path for path in directory.rglob("*") if path.is_file()]}
    for path in (output, numbers):
        own = {} if path.parent == directory and path.stem == "relations" else reads
        check_output(path, "--output", overwrite=overwrite, reads=own)
    over_training = curves(directory / "metrics.jsonl")
    with joined_processes(config):
        run, saved = restored(config, directory, goes_on=False)
        with run.loader:
            related = relate_one_batch(run, saved.step, shards=saved_shards(saved.state))
    chosen = chosen_rows(related, rows)
    relation: RelationSettings = config.relation
    description: dict[str, Any] = {
        "run": str(directory),
        "relation": relation.name,
        "title": f"{config.method.name} {relation.title}",
        **describe(related, run.images, chosen, over_training),
    }
    picture = draw(related, run.images, description)
    text = json.dumps(description, indent=1, allow_nan=False)
    for path, content in ((output, picture), (numbers, f"{text}\n".encode())):
        with atomic_file(path) as file:
            file.write(content)
    for note in saved.notes:
        print(note)
    for line in _lines(description):
        print(line)
    print(f"written: {output} and {numbers}")


def chosen_rows(related: RelatedBatch, rows: Sequence[int] | None) -> list[int]:
    """The rows of the batch that were asked for, or the first ones of the first group.

    Raises:
        InputError: the batch has no such row.
    """
    count = len(related.images)
    for row in rows or ():
        if not 0 <= row < count:
            raise InputError(
                f"--rows: {row} is no row of the batch, expected 0 to {count - 1}; choose others"
            )
    if rows is not None:
        return list(dict.fromkeys(rows))
    return related.members.flatten()[:CHOSEN].tolist()


def _lines(found: dict[str, Any]) -> list[str]:
    """The main numbers, for the screen."""
    lines = [f"{found['title']}, after step {found['step']}: {'; '.join(found['notes'])}"]
    lines.append(f"cosine between the streams  {found['stream_cosine']['mean']:.3f}")
    for number, layer in enumerate(found["layers"]):
        lines.append(
            f"layer {number}: entropy {layer['entropy']:.3f} of log "
            f"{layer['rows_to_choose_from']:g} = {layer['log_rows_to_choose_from']:.3f}; "
            f"{100 * layer['share_of_itself']:.1f} % on the image itself"
        )
        if layer["share_of_same_class"] is not None and found["classes"] is not None:
            lines.append(
                f"layer {number}: of the rest {100 * layer['share_of_same_class']:.1f} % on its "
                f"class, {100 * layer['share_of_same_class_by_chance']:.1f} % by chance"
            )
    return lines
