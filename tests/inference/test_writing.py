import torch
from torch import Tensor

from secateurs.inference.writing import Looks, write
from tests.tiny import make_tiny_model

PROMPTS = [[5, 9], [8], [30, 31, 32], [9], [77, 5]]


def likeliest(logits: Tensor, rows: Tensor, step: int) -> Tensor:
    return logits.argmax(dim=-1)


def test_every_step_and_every_end_is_told_once() -> None:
    model, told = make_tiny_model().requires_grad_(False), list[tuple[int, int]]()

    def show(steps: int, ended: int) -> None:
        told.append((steps, ended))

    write(model, PROMPTS, 21, likeliest, Looks(2, show=show), range(60))
    steps, ended = zip(*told, strict=True)
    assert (sum(steps), sum(ended)) == (21, 5)
    assert sum(count > 0 for count in ended) > 1


def test_a_row_that_is_over_keeps_what_it_had_written_and_is_asked_about_no_more() -> None:
    model, asked = make_tiny_model().requires_grad_(False), list[int]()
    whole = write(model, PROMPTS, 12, likeliest, Looks(1))

    def over(written: Tensor) -> Tensor:
        asked.append(len(written))
        # The first of the rows that are left has enough after its fifth token.
        return torch.arange(len(written)) < (written.shape[1] == 5)

    found = write(model, PROMPTS, 12, likeliest, Looks(5, over))
    assert asked == [5, 4, 4]
    assert found[1:] == whole[1:]
    # One of five is too few to leave the batch.
    assert found[0] == whole[0]


def test_rows_leave_the_batch_where_enough_are_over() -> None:
    model = make_tiny_model().requires_grad_(False)
    whole = write(model, PROMPTS, 12, likeliest, Looks(1))
    found = write(
        model, PROMPTS, 12, likeliest, Looks(5, lambda written: torch.arange(len(written)) % 2 == 0)
    )
    # Rows 0, 2 and 4 after five tokens, then the first of the two that are left, then the last one.
    assert [len(ids) for ids in found] == [5, 10, 5, 12, 5]
    assert found == [ids[: len(short)] for ids, short in zip(whole, found, strict=True)]
