"""Tool: write the code that each stage imports into the dependencies of every dvc.yaml."""

from pathlib import Path

import click

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from stages.common.console import stage
from stages.planning.dependencies import pipelines, with_code


@stage
@click.option("--check", is_flag=True, help="Write nothing; fail where a file would change.")
def main(check: bool) -> None:
    """Bring the `deps` of dvc.yaml and of the optional pipelines up to date with the imports."""
    root = Path.cwd()
    stale = []
    for file in pipelines(root):
        before = file.read_text(encoding="utf-8")
        after = with_code(before, root)
        if after == before:
            continue
        stale.append(str(file.relative_to(root)))
        if not check:
            with atomic(file) as temporary:
                temporary.write_text(after, encoding="utf-8")
    if check and stale:
        raise InputError(f"{', '.join(stale)}: code dependencies are stale; run `make deps`")
    click.echo(f"deps: {', '.join(stale) or 'nothing'} {'rewritten' if stale else 'to change'}")


if __name__ == "__main__":
    main()
