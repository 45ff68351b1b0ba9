"""Jobs by submitit, on its executor for one machine."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from linear_eval.system.errors import InputError
from ssl_bf.study.arms import open_arms
from ssl_bf.study.schedule import do_all
from ssl_bf.study.slurm import Jobs, Slurm, TaskInJob
from ssl_bf.study.study_file import StudyConfig, load_study
from tests.any_command import SAVES, any_command
from tests.ssl_bf.study.conftest import STUDY
from tests.ssl_bf.study.test_watched import ROOT, wait_for

pytest.importorskip("submitit", reason="the extra slurm")


@pytest.fixture
def study(files: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (files / "study").mkdir()
    return load_study("study.yaml", ["slurm.minutes=5"]).value


@pytest.fixture
def jobs(study: StudyConfig) -> Jobs:
    return Slurm(cluster="local").launcher(study, threads=1)


def test_jobs_do_tasks_and_their_numbers_are_kept(jobs: Jobs, files: Path) -> None:
    good, bad = any_command(files, seed=0), any_command(files, "sys.exit(3)", seed=1)
    assert do_all([good, bad], jobs, jobs=2) == [bad]
    assert json.loads((files / "study" / "jobs.json").read_text()).keys() == {good.name, bad.name}


def test_a_pre_empted_job_saves_and_goes_on_in_the_next(jobs: Jobs, files: Path) -> None:
    task = any_command(files, SAVES)
    started = jobs.start(task, 0)
    wait_for(task.run.directory / "begun")
    watched = (task.run.directory / "starter").read_text()
    job = Path(f"/proc/{watched}/stat").read_text().split()[3]  # whose child it is
    os.kill(int(job), signal.SIGUSR2)  # as Slurm does before it takes the machine away
    wait_for(task.run.directory / "done")
    assert (task.run.directory / "saved").exists()
    while started.poll() is None:
        time.sleep(0.05)
    assert started.poll() == 0


def test_a_job_that_is_still_at_work_is_found_again(jobs: Jobs, files: Path) -> None:
    class Working:
        def __init__(self, folder: Path, number: str) -> None:
            self.number = number

        def done(self) -> bool:
            return False

    class Executor:
        job_class = Working
        folder = files

        def submit(self, call: TaskInJob) -> Any:
            raise AssertionError("a second job of one task")

    task = any_command(files)
    jobs.known.write_text(json.dumps({task.name: "17"}))
    found = Jobs(executor=Executor(), threads=1, known=jobs.known).start(task, 0)
    assert found.job.number == "17"
    assert found.poll() is None


@pytest.mark.parametrize(
    ("cluster", "overrides", "said"),
    [
        ("slurm", [], "srun is not found here"),
        ("local", ["budget.rule=seconds"], "^budget.rule: seconds are measured on this machine"),
        ("local", ["precision=auto"], "^precision: auto is measured on this machine"),
    ],
)
def test_what_cannot_work_elsewhere_is_refused(
    files: Path, cluster: str, overrides: list[str], said: str
) -> None:
    study = load_study("study.yaml", overrides).value
    assert yaml.safe_load(Path("study.yaml").read_text()) == STUDY
    with pytest.raises(InputError, match=said):
        Slurm(cluster=cluster).check(study, open_arms(study))
