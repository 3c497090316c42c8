from pathlib import Path

from click.testing import CliRunner
from ruamel.yaml import YAML

from stages.enable import main
from stages.planning.dependencies import TEMPLATES
from tests.project import ROOT

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
        result = CliRunner().invoke(main, ["exporting"])
        assert result.exit_code == 0, result.output
        written = YAML(typ="safe").load(template.with_name("dvc.yaml").read_text(encoding="utf-8"))
        assert written["stages"]["export"] == {"cmd": "python -m stages.export", "deps": deps}


def test_the_project_has_two_optional_pipelines() -> None:
    names = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.glob(TEMPLATES))
    assert names == ["stages/exporting/pipeline.yaml", "stages/recovering/pipeline.yaml"]
