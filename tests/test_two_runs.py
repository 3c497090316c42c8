"""Two `dvc repro` at once in one clone: one of them makes each output, and what is left is whole."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.project import ENVIRONMENT, change, read_yaml
from tests.test_kills import ONE_ROUND, RUN, content
from tests.test_rerun import Project, stages_run

pytestmark = pytest.mark.slow


def started(project: Project) -> subprocess.Popen[str]:
    environment = os.environ | ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}
    del environment["PYTHONPATH"]
    return subprocess.Popen(
        RUN,
        cwd=project.directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_second_of_two_runs_stops_in_words_or_takes_its_part_and_all_is_whole(
    tmp_path: Path, dense_dir: Path, quick_dvc: None
) -> None:
    projects = []
    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name, dense_dir)
        project.write(change(read_yaml(project.directory / "params.yaml"), ONE_ROUND))
        projects.append(project)
    alone, together = projects
    alone.run(RUN)
    first, second = started(together), started(together)
    said = [one.communicate(timeout=600)[0] for one in (first, second)]
    ended = sorted([first.returncode, second.returncode])
    assert ended[0] == 0, said
    assert all("Traceback" not in text for text in said)
    refused = [text for text, one in zip(said, (first, second), strict=True) if one.returncode]
    assert all("lock" in text or "busy" in text for text in refused), said
    # No stage ran in both.
    ran = [stages_run(text) for text in said]
    assert not set(ran[0]) & set(ran[1])
    assert stages_run(together.run(RUN)) == []
    assert content(together.directory / "data") == content(alone.directory / "data")
