"""Whether the tasks of params.yaml can be scored, told before anything is pruned."""

from secateurs.errors import InputError
from secateurs.text.stock_tasks import stock_problems
from secateurs.text.task_items import check_code, check_task
from stages.params.file import PARAMS_FILE, Params, in_file


def check_tasks(params: Params) -> None:
    """Raise InputError that names every task that cannot be scored, and why.

    Tasks as lm-eval ships them are judged by their settings alone (stock_problems).
    """
    problems = []
    for task, benchmark in params.benchmarks.items():
        if benchmark.source == "stock":
            problems += [f"{PARAMS_FILE}: benchmarks.{task}: {problem}" for problem in stock_problems(task)]
            continue
        try:
            check_task(task)
            check_code(task, params.evaluate.run_generated_code)
        except InputError as error:
            problems.append(in_file(error))
    if problems:
        raise InputError("\n".join(problems))
