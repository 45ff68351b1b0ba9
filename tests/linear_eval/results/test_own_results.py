import json
import math
from pathlib import Path

import pytest

from linear_eval.results.own_results import write_results
from linear_eval.results.seal import sealed


def test_results_are_written_as_json_and_never_with_nan(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", {"metrics": {"a": 1.5}})
    found = json.loads((tmp_path / "results.json").read_text())
    assert found == sealed({"metrics": {"a": 1.5}})
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "other.json", {"metrics": {"a": math.nan}})
    assert not (tmp_path / "other.json").exists()
