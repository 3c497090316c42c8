"""Tool: switch an optional pipeline on by writing its dvc.yaml, which is how DVC finds a pipeline."""

from pathlib import Path

import click

from secateurs.files.atomic import atomic
from stages.common.console import stage
from stages.planning.dependencies import TEMPLATES, with_code

HEADER = "# Written by `python -m stages.enable {name}` from pipeline.yaml beside it: change that one.\n"


@stage
@click.argument("name", type=click.Choice(sorted(file.parent.name for file in Path().glob(TEMPLATES))))
def main(name: str) -> None:
    """Write stages/NAME/dvc.yaml, for `dvc repro stages/NAME/dvc.yaml`; delete it to switch it off again.

    Its stages depend on the code that they import now, so write it again after a change of an import.
    """
    (template,) = Path().glob(TEMPLATES.replace("*", name))
    written = HEADER.format(name=name) + with_code(template.read_text(encoding="utf-8"), Path.cwd())
    target = template.with_name("dvc.yaml")
    if not target.exists() or target.read_text(encoding="utf-8") != written:
        with atomic(target) as file:
            file.write_text(written, encoding="utf-8")
    click.echo(f"enable: {target} is on; commit it with its dvc.lock to share what it makes")


if __name__ == "__main__":
    main()
