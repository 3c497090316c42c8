"""How a recovery is going, as tables that DVC plots while it runs: a loss for each step, and the checks.

The files are those that DVCLive would write (`step`, tab, value, a row a step). It is not used, because the
state of a recovery is in its snapshot: DVC deletes a stage's outputs before it runs it again, and with them
the table that DVCLive would go on from.
"""

from collections.abc import Callable
from pathlib import Path

from secateurs.recover.training import Course

CURVES = Path("data/recovery")
LOSS, DIVERGENCE, AGREEMENT = "loss.tsv", "divergence.tsv", "agreement.tsv"


def following(directory: Path) -> Callable[[Course], None]:
    """Begin the tables anew; what to call with the course after every step to add what it has more.

    loss: KL(dense || model) of a step on the text that it trained on. divergence: the same on left-out text,
    by the steps made before it, at first none. Both in nats per token. agreement: with the dense model's
    answers after those steps, a share; no rows where nothing is asked. The first call may bring many steps:
    those of a run that goes on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = dict.fromkeys((LOSS, DIVERGENCE, AGREEMENT), 0)
    for name in written:
        column = name.partition(".")[0]
        (directory / name).write_text(f"step\t{column}\n", encoding="utf-8", newline="\n")

    def follow(course: Course) -> None:
        rows = {
            LOSS: list(enumerate(course.losses, 1)),
            DIVERGENCE: [(check.steps, check.divergence) for check in course.checks],
            AGREEMENT: [
                (check.steps, check.agreement) for check in course.checks if check.agreement is not None
            ],
        }
        for name, all_rows in rows.items():
            fresh = all_rows[written[name] :]
            if fresh:
                with (directory / name).open("a", encoding="utf-8", newline="\n") as file:
                    file.writelines(f"{step}\t{value!r}\n" for step, value in fresh)
            written[name] = len(all_rows)

    return follow
