"""Stage: an evaluated checkpoint with the model card that says how good it is, as it goes to the hub."""

import os
import shutil
from pathlib import Path

import click

from secateurs.checkpoints.origin import base_model, data_set, quantisation
from secateurs.files.atomic import atomic
from stages.common.artifacts import read_card
from stages.common.console import stage, summary
from stages.common.hashes import check_hashes
from stages.common.locks import hold
from stages.common.paths import DATA, EVALUATIONS, HEALING, PUBLISHED, ROUNDS
from stages.params.file import read_params
from stages.reporting.evaluated_card import evaluated_card, front_matter
from stages.reporting.facts import facts
from stages.reporting.metrics import build_metrics, read_evidence

CARD = "README.md"


@stage
@click.argument("name", type=click.Choice(["pruned", "recovered"]))
def main(name: str) -> None:
    """Write data/published/NAME: data/NAME, its model card with the figures of data/evaluations."""
    params = read_params()
    checkpoint, target = DATA / name, PUBLISHED / name
    hold(target)
    evidence = read_evidence(EVALUATIONS, ROUNDS / params.surgery.after / "history.json", HEALING, name)
    data = front_matter(
        f"{params.model.name}-{name}",
        params.model.licence,
        base_model(params.model),
        {key: data_set(domain) for key, domain in params.domains.items()},
        evidence,
    )
    check_hashes(checkpoint)
    metrics = build_metrics(evidence)
    known = facts(metrics, quantisation(params.model), recovered=name == "recovered")
    card = evaluated_card(read_card(checkpoint), data, evidence, metrics, known)
    with atomic(target) as directory:
        directory.mkdir()
        for file in sorted(checkpoint.iterdir()):
            if file.name != CARD:
                _link(file, directory / file.name)
        (directory / CARD).write_text(card, encoding="utf-8")
    summary("publish", f"{target}: `hf upload you/your-model {target}` puts it on the hub")


def _link(source: Path, target: Path) -> None:
    # Checkpoints are large and nothing changes them in place; where the file system has no links, a copy.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
