"""Tool: write the code that each stage imports into the dependencies of dvc.yaml."""

from pathlib import Path

import click

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from stages.common.console import stage
from stages.planning.dependencies import with_code

FILE = Path("dvc.yaml")


@stage
@click.option("--check", is_flag=True, help="Write nothing; fail where the file would change.")
def main(check: bool) -> None:
    """Bring the `deps` of dvc.yaml up to date with the imports; `stages.enable` does it for optional ones."""
    before = FILE.read_text(encoding="utf-8")
    after = with_code(before, Path.cwd())
    if check and after != before:
        raise InputError(f"{FILE}: code dependencies are stale; run `make deps`")
    if after != before:
        with atomic(FILE) as temporary:
            temporary.write_text(after, encoding="utf-8")
    click.echo(f"deps: {f'{FILE} rewritten' if after != before else 'nothing to change'}")


if __name__ == "__main__":
    main()
