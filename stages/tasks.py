"""Stage: how a checkpoint answers the items of the tasks."""

from pathlib import Path

import click

from secateurs.devices.placement import place
from secateurs.evaluation.circumstances import circumstances
from secateurs.evaluation.scores import headline_metric
from secateurs.evaluation.zero_shot import Score, score_tasks
from secateurs.files.json_file import write_json
from stages.common.artifacts import AnswerRow, write_answers
from stages.common.checkpoints import load_model, load_tokenizer
from stages.common.console import stage, summary
from stages.common.hashes import check_hashes
from stages.common.locks import hold
from stages.common.paths import BENCHMARKS, EVALUATIONS
from stages.common.task_settings import asking_of, items_of
from stages.params.file import read_params


@stage
@click.argument("name", type=click.Choice(["dense", "pruned", "recovered"]))
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True, help="Directory to score.")
def main(name: str, checkpoint: Path) -> None:
    """Ask a checkpoint and write data/evaluations/NAME/tasks.json and, item by item, answers.parquet."""
    params = read_params()
    hold(EVALUATIONS / name / "tasks.json")
    dtype, device = params.compute.dtype, params.compute.device
    scores: dict[str, Score] = {}
    if params.benchmarks:
        check_hashes(BENCHMARKS)
        model, tokenizer = place(load_model(checkpoint, dtype), device), load_tokenizer(checkpoint)
        scores = score_tasks(model, tokenizer, items_of(params.benchmarks), asking_of(params.evaluate))
    records = {task: score.record() for task, score in scores.items()}
    metrics = {task: headline_metric(record) for task, record in records.items()}
    rows = [
        AnswerRow(task, answer.item, metrics[task], answer.scores[metrics[task]], answer.text)
        for task, score in scores.items()
        for answer in score.answers
    ]
    write_answers(EVALUATIONS / name / "answers.parquet", rows)
    write_json(
        EVALUATIONS / name / "tasks.json", {"accuracy": records, "settings": circumstances(dtype, device)}
    )
    shown = ", ".join(f"{task} {record[metrics[task]]:.3f}" for task, record in records.items())
    summary("tasks", f"{name}: {shown or 'none'}")


if __name__ == "__main__":
    main()
