"""`prune.sites: auto`: what trials measure, against the same done by hand, and that targets are met."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from secateurs.choose.options import options
from secateurs.choose.weight_bytes import weight_bytes
from secateurs.errors import InputError
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_parameters
from secateurs.kind_trials import Chosen, choose_kinds
from secateurs.pruner import prune_model
from secateurs.settings.method import Settings
from secateurs.settings.pruning import Auto, Memory, Prune
from secateurs.text.rows import Text
from tests.test_prune import SMALL
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level

Make = Callable[..., LlamaForCausalLM]
AUTO = Auto(kinds=["vocabulary", "mlp", "attention", "blocks"], trials=2, sequences=3, left_out=2)


def model_of(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return make_tiny_model(
        vocab_size=448, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )


def text_of(tokenizer: PreTrainedTokenizerFast) -> Text:
    ids = tokenizer(" ".join(TEXT))["input_ids"]
    rows = [ids[start : start + 24] for start in range(0, len(ids) - 24, 12)]
    news = torch.tensor([rows[number % len(rows)] for number in range(8)])
    return Text({"news": news, "code": news.flip(0)})


def settings_of(model: LlamaForCausalLM, gone: int, **changes: object) -> Settings:
    budget = Prune(sites="auto", parameters=model.num_parameters() - gone, width_multiple=1, auto=AUTO)
    return SMALL.changed(prune=budget.changed(**changes))


@pytest.fixture(scope="module")
def chosen() -> tuple[LlamaForCausalLM, Text, Settings, Chosen]:
    tokenizer = byte_level()
    model, text = model_of(tokenizer), text_of(tokenizer)
    settings = settings_of(model, 9000)
    return model, text, settings, choose_kinds(model, tokenizer, text, settings)


def nats_per_byte(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Tensor) -> float:
    """Directly: the loss of each row by the library's own labels, and the bytes that its tokens spell."""
    nats, length = 0.0, 0
    for row in rows:
        nats += float(model(input_ids=row[None], labels=row[None]).loss.detach()) * (len(row) - 1)
        length += len(tokenizer.decode(row[1:]).encode())
    return nats / length


def test_a_trial_lost_what_the_same_pruning_loses_on_the_last_rows(chosen) -> None:
    model, text, settings, found = chosen
    tokenizer = byte_level()
    trial = next(one for one in found.trials if one.kind == "mlp")
    rest = Text({name: ids[:-2] for name, ids in text.ids.items()})
    share = trial.parameters / decoder_parameters(model)
    alone = Prune(sparsity=share, sites=["mlp"], width_multiple=1)
    small = prune_model(model, rest, settings.changed(prune=alone, rounds={"trial": 1.0})).model
    assert model.num_parameters() - small.num_parameters() == trial.parameters
    for name, ids in text.ids.items():
        after, before = (nats_per_byte(one, tokenizer, ids[-2:]) for one in (small, model))
        assert trial.lost[name] == pytest.approx(after - before, rel=1e-3, abs=1e-5)


def test_every_kind_is_tried_up_to_the_target_and_the_dense_model_stays(chosen) -> None:
    model, _, _, found = chosen
    kinds = {one.kind for one in found.trials}
    assert kinds == {"vocabulary", "mlp", "attention", "blocks"}
    assert found.unused == {}
    assert all(weight.requires_grad for weight in model.parameters())
    largest = max(one.parameters for one in found.trials if one.kind == "mlp")
    assert 9000 <= largest < 9000 + 3 * 3 * 32


def test_what_was_chosen_prunes_to_the_target(chosen) -> None:
    model, text, settings, found = chosen
    budget = found.settled(settings.prune)
    pruned = prune_model(model, text, settings.changed(prune=budget), tokenizer=byte_level())
    gone = model.num_parameters() - pruned.model.num_parameters()
    step = 3 * 3 * 32 if "mlp" in budget.sites else max(one.parameters for one in found.trials)
    assert 9000 <= gone < 9000 + step


def test_bytes_are_counted_at_their_precision() -> None:
    tokenizer = byte_level()
    model, text = model_of(tokenizer), text_of(tokenizer)
    whole = weight_bytes(model, "bfloat16")
    memory = Memory(bytes=whole - 16000, precision="bfloat16")
    settings = settings_of(model, 0, parameters=None, memory=memory)
    found = choose_kinds(model, tokenizer, text, settings)
    assert {one.size / one.parameters for one in found.trials} == {2.0}
    budget = found.settled(settings.prune)
    pruned = prune_model(model, text, settings.changed(prune=budget), tokenizer=tokenizer)
    assert weight_bytes(pruned.model, "bfloat16") <= memory.bytes


def test_a_target_of_multiply_adds_is_met_by_what_costs_least_for_each_of_them() -> None:
    tokenizer = byte_level()
    model, text = model_of(tokenizer), text_of(tokenizer)
    aim = macs_per_token(model) - 8000
    settings = settings_of(model, 0, parameters=None, multiply_adds=aim)
    found = choose_kinds(model, tokenizer, text, settings)
    assert {one.kind for one in found.trials} == {"vocabulary", "mlp", "attention", "blocks"}
    block = sum(one.numel() for one in model.model.layers[0].parameters())
    for one in found.trials:
        # All are weights of matrices that a token takes once, but for two norms of a block.
        norms = 2 * 32 * (one.parameters // block) if one.kind == "blocks" else 0
        assert one.parameters - one.size == norms
    budget = found.settled(settings.prune)
    pruned = prune_model(model, text, settings.changed(prune=budget), tokenizer=tokenizer)
    assert macs_per_token(pruned.model) <= aim


def test_a_share_of_the_decoder_takes_no_rows(tiny_model: Make) -> None:
    prune = Prune(sparsity=0.2, sites="auto", width_multiple=1, auto=AUTO)
    found = options(tiny_model(), prune, "taylor")
    assert found.rows == []
    assert "counts the decoder alone" in found.unused["vocabulary"]
    assert found.target == round(0.2 * decoder_parameters(tiny_model()))


def test_rows_that_are_given_are_no_option(tiny_model: Make) -> None:
    model = tiny_model()
    rows = Prune().vocabulary.changed(rows=192)
    prune = Prune(
        parameters=model.num_parameters() - 66 * 32 - 3000, sites="auto", vocabulary=rows, auto=AUTO
    )
    assert options(model, prune, "taylor").target == 3000
    assert options(model, prune, "taylor").unused["vocabulary"] == "prune.vocabulary.rows: 192 is given"


def test_of_more_rows_than_tokens_no_more_stay_than_there_are_tokens() -> None:
    tokenizer = byte_level()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = make_tiny_model(vocab_size=640, **ids)
    alone = AUTO.changed(kinds=["vocabulary"])
    settings = settings_of(model, 20 * 32, auto=alone)
    found = choose_kinds(model, tokenizer, text_of(tokenizer), settings)
    # 447 tokens, in whole steps of 64.
    assert [one.parameters for one in found.trials] == [(640 - 384) * 32]
    assert (found.sites, found.rows) == ([], 384)


def test_a_kind_without_the_metric_is_not_tried(tiny_model: Make) -> None:
    prune = Prune(sparsity=0.2, sites="auto", width_multiple=1, auto=AUTO)
    assert options(tiny_model(), prune, "wanda").unused["blocks"] == "it has no score called wanda"


def test_more_than_all_kinds_give_is_refused() -> None:
    tokenizer = byte_level()
    model = model_of(tokenizer)
    settings = settings_of(model, model.num_parameters() - 3000)
    with pytest.raises(InputError, match=r"parameters: 3000: more than .* can give together"):
        choose_kinds(model, tokenizer, text_of(tokenizer), settings)


def test_shares_by_hand_are_kept() -> None:
    tokenizer = byte_level()
    shares = {"mlp": 1.0, "attention": 1.0}
    text = text_of(tokenizer)
    for shape in ("uniform", "per_layer"):
        prune = Prune(sparsity=0.4, sites=["mlp", "attention"], shares=shares, width_multiple=1, widths=shape)
        pruned = prune_model(model_of(tokenizer), text, SMALL.changed(prune=prune))
        removed = pruned.history[-1]["removed"]
        assert sum(removed.values()) / decoder_parameters(model_of(tokenizer)) >= 0.4
        # A KV group out of each of the layers, or out of any.
        group = (3 if shape == "uniform" else 1) * 32 * 8 * 6
        assert abs(removed["attention"] - removed["mlp"]) <= 2 * group


def test_a_share_that_a_kind_cannot_give_is_refused() -> None:
    prune = Prune(
        sparsity=0.5, sites=["mlp", "attention"], shares={"mlp": 1, "attention": 9}, width_multiple=1
    )
    with pytest.raises(InputError, match=r"prune.shares: attention: 9: asks for .* of attention to remove"):
        prune_model(model_of(byte_level()), text_of(byte_level()), SMALL.changed(prune=prune))


def test_without_shares_the_history_says_what_each_kind_gave_and_nothing_of_shares() -> None:
    model = model_of(byte_level())
    prune = Prune(sparsity=0.3, sites=["mlp", "attention"], width_multiple=1)
    entry = prune_model(model, text_of(byte_level()), SMALL.changed(prune=prune)).history[-1]
    assert "shares" not in entry["prune"]
    assert sum(entry["removed"].values()) == round(entry["sparsity"] * decoder_parameters(model))
