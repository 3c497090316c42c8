from pathlib import Path

from click.testing import CliRunner
from ruamel.yaml import YAML

from stages.enable import main
from stages.planning.dependencies import TEMPLATES, pipelines
from tests.project import ROOT


def test_an_optional_pipeline_is_unknown_to_dvc_until_it_is_enabled(here: Path) -> None:
    template = here / "stages/exporting/pipeline.yaml"
    template.parent.mkdir(parents=True)
    template.write_text("stages: {}\n", encoding="utf-8")
    result = CliRunner().invoke(main, ["exporting"])
    assert result.exit_code == 0, result.output
    written = template.with_name("dvc.yaml").read_text(encoding="utf-8")
    assert YAML(typ="safe").load(written) == {"stages": {}}
    template.write_text("stages: {export: {}}\n", encoding="utf-8")
    assert CliRunner().invoke(main, ["exporting"]).exit_code == 0
    assert "export" in template.with_name("dvc.yaml").read_text(encoding="utf-8")


def test_the_project_has_its_default_pipeline_and_two_optional_ones() -> None:
    names = [file.relative_to(ROOT).as_posix() for file in pipelines(ROOT)]
    assert names == ["dvc.yaml", "stages/exporting/pipeline.yaml", "stages/recovering/pipeline.yaml"]
    assert TEMPLATES.endswith("pipeline.yaml")
