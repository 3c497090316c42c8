"""How the tasks are asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Asking:
    """How tasks are asked.

    limit: items per task, drawn with `seed`, the same ones for every model; 0 takes all. batch_size: rows of
    256 tokens at a time to begin with, halved whenever memory runs out. chat_template: where a task has the
    model write, its prompts go through the tokenizer's; choices are compared after plain prompts all the
    same, as published figures do it. run_generated_code: whether programs that the model writes are run (see
    programs.py).
    """

    limit: int
    seed: int
    batch_size: int
    chat_template: bool = False
    run_generated_code: bool = False
