"""Stage: what a checkpoint costs before it runs: parameters, multiply-adds, bytes on disk."""

from dataclasses import asdict
from pathlib import Path

import click

from secateurs.evaluation.cost import measure_size
from secateurs.evaluation.units import count, size
from secateurs.files.json_file import write_json
from stages.common.checkpoints import load_shapes
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import EVALUATIONS


@stage
@click.argument("name", type=click.Choice(["dense", "pruned", "recovered"]))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Directory to measure.")
def main(name: str, checkpoint: Path) -> None:
    """Count what a checkpoint has and write data/evaluations/NAME/cost.json."""
    hold(EVALUATIONS / name / "cost.json")
    found = measure_size(load_shapes(checkpoint), checkpoint)
    write_json(EVALUATIONS / name / "cost.json", {"cost": asdict(found)})
    summary("cost", f"{name}: {count(found.parameters)} parameters, {size(found.weight_bytes)} of weights")


if __name__ == "__main__":
    main()
