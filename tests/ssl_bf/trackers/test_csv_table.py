"""Run: pytest tests/ssl_bf/trackers/test_csv_table.py."""

import csv
from pathlib import Path

from ssl_bf.trackers.csv_table import CsvTable


def rows(folder: Path) -> list[list[str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_resumed_table_is_that_of_a_run_never_stopped(tmp_path: Path) -> None:
    table = CsvTable(tmp_path, None)
    for step in (1, 2, 3):
        table.add(step, step / 4, {"loss": 1 / step, "a/b": 0.5})
    table.close()
    whole = rows(tmp_path)
    assert whole[:2] == [["step", "epoch", "name", "value"], ["1", "0.25", "loss", "1.0"]]
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,1.0,lo")  # a killed process
    table = CsvTable(tmp_path, 2)
    table.add(3, 0.75, {"loss": 1 / 3, "a/b": 0.5})
    table.close()
    assert rows(tmp_path) == whole
    CsvTable(tmp_path, None).close()
    assert rows(tmp_path) == whole[:1]
