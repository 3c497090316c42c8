"""Tool: list what `python -m stages.NAME` can run, a line each."""

import ast
from pathlib import Path

import click

from stages.common.console import stage


@stage
def main() -> None:
    """Print every stage and tool with the first line of its description."""
    files = sorted(file for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))
    lines = {file.stem: _first_line(file) for file in files}
    width = max(map(len, lines))
    for kind in ("Stage", "Tool"):
        click.echo(f"{kind}s:")
        for name, line in lines.items():
            if line.startswith(f"{kind}: "):
                click.echo(f"  {name:<{width}}  {line.removeprefix(f'{kind}: ')}")


def _first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
