from pathlib import Path

from stages.enable import main
from stages.planning.dependencies import TEMPLATES
from tests.project import ROOT, invoke, read_yaml

TEMPLATE = """\
stages:
  export:
    cmd: python -m stages.export
    deps:
      - data/pruned
"""


def test_an_optional_pipeline_is_unknown_to_dvc_until_it_is_enabled(here: Path) -> None:
    template = here / "stages/exporting/pipeline.yaml"
    template.parent.mkdir(parents=True)
    (here / "stages/export.py").write_text("import stages.writing\n", encoding="utf-8")
    (here / "stages/writing.py").write_text("", encoding="utf-8")
    template.write_text(TEMPLATE, encoding="utf-8")
    for before, after, deps in (
        ("", "", ["stages/export.py", "stages/writing.py", "data/pruned"]),
        ("pruned", "recovered", ["stages/export.py", "stages/writing.py", "data/recovered"]),
    ):
        template.write_text(TEMPLATE.replace(before, after), encoding="utf-8")
        invoke(main, "exporting")
        written = read_yaml(template.with_name("dvc.yaml"))
        assert written["stages"]["export"] == {"cmd": "python -m stages.export", "deps": deps}


def test_the_project_has_two_optional_pipelines() -> None:
    names = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.glob(TEMPLATES))
    assert names == ["stages/exporting/pipeline.yaml", "stages/recovering/pipeline.yaml"]
