import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from secateurs.errors import SettingError
from secateurs.heal.healed import TokensHealed
from secateurs.recover.lost_tokens import Spelling, heal_tokens
from secateurs.settings.method import settings_of
from secateurs.settings.pruning import Tokens
from secateurs.vocabulary.choose import trim_vocabulary
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import removal_order
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_fallback, byte_level, unigram

SETTINGS = Tokens(steps=12, learning_rate=0.01, batch_size=2)


def trimmed(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer without two thirds of what may go, and the model without their rows, in place."""
    pieces = read_pieces(tokenizer, 512)
    order = removal_order(pieces, {index: float(-index) for index in pieces.tokens})
    kept = pieces.tokens.keys() - set(order[: 2 * len(order) // 3])
    return trim_vocabulary(model, tokenizer, sorted(kept))


def rows_of(tokenizer: PreTrainedTokenizerFast, lines: list[str]) -> dict[str, Tensor]:
    ids = [(tokenizer(line, add_special_tokens=False)["input_ids"] * 9)[:24] for line in lines]
    return {"d": torch.tensor(ids)}


@pytest.mark.parametrize("make", [byte_level, byte_fallback, unigram])
def test_a_text_in_both_cuts_is_the_same_text_up_to_every_shared_place(
    make: Callable[[], PreTrainedTokenizerFast],
) -> None:
    tokenizer = make()
    small = trimmed(tokenizer, make_tiny_model(vocab_size=512))
    spelling = Spelling(tokenizer, small)
    assert spelling.lost
    for line in TEXT[:2]:
        cut = spelling.cut(tokenizer(line, add_special_tokens=False)["input_ids"])
        assert len(cut.small) == len(cut.dense) + len(cut.inside)
        for theirs, ours in cut.shared.tolist():
            assert tokenizer.decode(cut.dense[: theirs + 1]) == small.decode(cut.small[: ours + 1])
        assert set(cut.shared[:, 1].tolist()).isdisjoint(cut.inside.tolist())


def healed(
    learning_rate: float = SETTINGS.learning_rate,
) -> tuple[PreTrainedModel, PreTrainedModel, PreTrainedModel, Spelling, TokensHealed, dict[str, Tensor]]:
    """Dense, cut, and trained; how the first two spell; what was done; the text left out."""
    tokenizer, dense = byte_level(), make_tiny_model(vocab_size=512)
    before = copy.deepcopy(dense)
    small = trimmed(tokenizer, before)
    spelling = Spelling(tokenizer, small)
    train, left = rows_of(tokenizer, TEXT[:2] + TEXT[4:]), rows_of(tokenizer, [TEXT[0][20:], TEXT[1][9:]])
    after = copy.deepcopy(before)
    settings = SETTINGS.changed(learning_rate=learning_rate)
    done = heal_tokens(after, dense, spelling, (train, left), settings, "cpu")
    return dense, before, after, spelling, done, left


def reference(dense: PreTrainedModel, small: PreTrainedModel, spelling: Spelling, text: Tensor) -> float:
    """The loss in words of the definition: place by place, token by token, in Python's floats."""
    total, count = 0.0, 0
    for row in text.tolist():
        pieces = [list(spelling.ids[index]) for index in row]
        ids = [piece for one in pieces for piece in one]
        if len(ids) == len(row):
            continue  # no token was lost
        with torch.no_grad():
            p = dense(torch.tensor([row])).logits[0].double().softmax(-1).tolist()
            q = small(torch.tensor([ids])).logits[0].double().log_softmax(-1).tolist()
        place = -1
        for number, one in enumerate(pieces):
            for going_on in one[1:]:
                place += 1
                total -= q[place][going_on]
            place += 1
            target: dict[int, float] = {}
            for index, spelled in spelling.ids.items():
                target[spelled[0]] = target.get(spelled[0], 0.0) + p[number][index]
            whole = sum(target.values())
            total += sum(v / whole * (math.log(v / whole) - q[place][s]) for s, v in target.items())
        count += len(ids)
    return total / count


def test_the_loss_is_kl_of_first_pieces_and_likelihood_of_the_others() -> None:
    dense, before, after, spelling, done, left = healed()
    assert done.before == pytest.approx(reference(dense, before, spelling, left["d"]), rel=1e-5)
    assert done.after == pytest.approx(reference(dense, after, spelling, left["d"]), rel=1e-5)
    assert done.after < done.before
    assert done.steps == SETTINGS.steps


def test_rows_of_pieces_and_norms_are_trained_and_nothing_else() -> None:
    dense, before, after, spelling, done, _ = healed()
    assert done.rows == len(spelling.rows)
    others = sorted(set(range(len(before.get_input_embeddings().weight))) - set(spelling.rows))
    for name, weight in before.named_parameters():
        now = after.get_parameter(name)
        if weight.dim() == 1:
            assert not torch.equal(now, weight), name
        elif "embed" in name or "lm_head" in name:
            assert torch.equal(now[others], weight[others]), name
            assert not torch.equal(now[spelling.rows], weight[spelling.rows]), name
        else:
            assert torch.equal(now, weight), name
    assert all(
        torch.equal(a, b)
        for a, b in zip(dense.parameters(), make_tiny_model(vocab_size=512).parameters(), strict=True)
    )


def test_a_training_that_makes_left_out_text_worse_is_undone() -> None:
    _, before, after, _, done, _ = healed(learning_rate=30.0)
    assert done.after == done.before
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_text_without_a_lost_token_trains_nothing() -> None:
    tokenizer, dense = byte_level(), make_tiny_model(vocab_size=512)
    text = rows_of(tokenizer, TEXT[:1])
    done = heal_tokens(
        copy.deepcopy(dense), dense, Spelling(tokenizer, tokenizer), (text, text), SETTINGS, "cpu"
    )
    assert done == TokensHealed(0, 0, 0.0, 0.0)


def test_a_model_spread_over_devices_is_refused_before_anything_is_pruned() -> None:
    changes = {"device": "sharded", "surgery.tokens.steps": 12, "prune.vocabulary.rows": 64}
    with pytest.raises(SettingError, match=r"compute\.device: sharded: surgery\.tokens: 12 steps need one"):
        settings_of(changes)
