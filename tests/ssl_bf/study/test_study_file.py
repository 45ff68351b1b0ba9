"""The study file is read strictly, and every mistake is one line."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from linear_eval.strict_config.reader import parse_config, to_yaml
from linear_eval.system.errors import ConfigError
from ssl_bf.study.study_file import StudyConfig, load_study

COPY = "{arm: copy, against: none, margin: 1}"


def test_a_key_of_the_study_is_its_own_and_every_other_goes_to_the_base() -> None:
    given = ["seeds=[0,1]", "epochs=2", "jobs=1", "directory=D", "data.train_images=99"]
    study = load_study("quickstart", given).value
    assert (study.seeds, study.jobs, study.directory) == ((0, 1), 1, "D")
    assert study.base_overrides == ("epochs=2", "data.train_images=99")


def test_a_study_survives_a_round_trip() -> None:
    study = load_study("quickstart", ["epochs=2", "learning_rates.seeds=[9]"]).value
    assert parse_config(StudyConfig, yaml.safe_load(to_yaml(study))).value == study


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds=[0]", "seeds: [0], expected two or more; a single run has no spread"),
        ("seeds=[1,1]", "seeds: expected different ones >= 0, got [1, 1]"),
        ("seeds=3", "seeds: expected a list of whole numbers, got 3 (int); write [3]"),
        ("arms=[{name: none}]", "arms: expected two or more of different names, got ['none']"),
        ("arms=[{name: a/b}]", "arms[0].name: 'a/b', expected letters, digits"),
        ("budget.rule=epochs", "budget.rule: 'epochs' is not one of ['steps', 'seconds']"),
        ("budget.seconds=60", "budget.seconds: means nothing with rule=steps; leave it out"),
        ("budget.second=60", "budget.second: no such key. Did you mean 'seconds'?"),
        ("judge.metrics=[]", "judge.metrics: expected one or more, each once, got []"),
        ("contrasts=[]", "contrasts: expected one or more"),
        (f"contrasts=[{COPY.replace('copy', 'copi')}]", "no arm 'copi', expected one of"),
        (f"contrasts=[{COPY.replace('copy', 'copi')}]", "Did you mean 'copy'?"),
        (f"contrasts=[{COPY.replace('copy', 'none')}]", "none against itself; name two arms"),
        (f"contrasts=[{COPY}, {COPY}]", "copy against none in knn/k=20/top1 is there twice"),
        (f"contrasts=[{COPY.replace('1', '0')}]", "contrasts[0].margin: must be > 0, got 0.0"),
        (
            "contrasts=[{arm: copy, against: none, margin: 1, metrics: [knn/k=5/top1]}]",
            "contrasts: knn/k=5/top1 is none of judge.metrics ['knn/k=20/top1', 'linear_probe/top1",
        ),
        ("learning_rates.seeds=[0]", "seeds: 0 is one of learning_rates.seeds"),
        ("learning_rates.factors=[1]", "learning_rates.factors: expected two or more, each > 0"),
        ("jobs=0", "jobs: must be >= 1, got 0"),
        ("slurm.cores=0", "slurm.cores: must be >= 1, got 0"),
        ("quick", "quick: not an override, expected key=value"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_study("quickstart", [override])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_kind_of_config_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("method: {name: simsiam}\n")
    with pytest.raises(ConfigError, match="is a pretraining config, expected a study; use `ssl-bf"):
        load_study(str(file), [])
    with pytest.raises(ConfigError, match="no such config.*quickstart"):
        load_study("nothing", [])


def test_reading_a_study_and_its_status_load_no_torch() -> None:
    code = (
        "import sys\nfrom ssl_bf.study.study_file import load_study\n"
        "from ssl_bf.study.status import status_lines\n"
        "status_lines(load_study('quickstart', ['directory=nowhere']).value)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
