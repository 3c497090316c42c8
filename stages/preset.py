"""Tool: print params.yaml for another model, by a preset of stages/presets."""

import subprocess

import click

from secateurs.errors import InputError
from stages.common.console import stage
from stages.params.file import PARAMS_FILE
from stages.params.overlay import preset_names, whole_preset


@stage
@click.argument("name", metavar="NAME", type=click.Choice(preset_names()))
@click.option("--of", "revision", default="HEAD", show_default=True, help="A commit with params.yaml.")
def main(name: str, revision: str) -> None:
    """Print params.yaml with what the preset NAME sets: python -m stages.preset NAME > params.yaml.

    What the preset does not name stays as it is in the last commit, and not as it lies here, because by now
    the shell has emptied params.yaml to write to it.
    """
    click.echo(whole_preset(name, _committed(revision)), nl=False)


def _committed(revision: str) -> str:
    command = ["git", "show", f"{revision}:./{PARAMS_FILE}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    except FileNotFoundError:
        raise InputError("git: not found; it has the params.yaml that a preset is laid over") from None
    except subprocess.CalledProcessError as error:
        raise InputError(f"--of: {revision}: {PARAMS_FILE}: {error.stderr.strip()}") from None
    return done.stdout


if __name__ == "__main__":
    main()
