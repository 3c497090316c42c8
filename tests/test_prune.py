"""The method in memory: what it returns, what it leaves alone, what it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.pruner import prune_model
from secateurs.settings.method import Settings, settings_of
from secateurs.text.rows import Text
from secateurs.vocabulary.ranking import count_tokens
from stages.params.file import read_params
from stages.params.method_settings import method_settings
from tests.project import PARAMS
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level

Make = Callable[..., LlamaForCausalLM]
SMALL = settings_of(
    {
        "prune.width_multiple": 1,
        "capture.sequences": 1,
        "surgery.sequences": 2,
        "surgery.choice_sequences": 1,
        "device": "cpu",
    }
)


def tokens(*domains: str) -> Text:
    generator = torch.Generator().manual_seed(0)
    return Text({name: torch.randint(2, 258, (3, 12), generator=generator) for name in domains})


def test_the_defaults_are_those_of_params() -> None:
    params = read_params(PARAMS)
    assert set(params.counted().values()) == {1.0}, "params.yaml no longer counts all domains alike"
    assert method_settings(params).changed(mixture={}) == Settings()


def test_it_removes_the_budget_and_leaves_the_dense_model_as_it_was(tiny_model: Make) -> None:
    dense = tiny_model()
    before = {name: weight.clone() for name, weight in dense.state_dict().items()}
    pruned = prune_model(dense, tokens("news", "code"), SMALL)
    share = 1 - decoder_parameters(pruned.model) / decoder_parameters(dense)
    assert 0.2 <= share < 0.22
    assert pruned.history[-1]["sparsity"] == pytest.approx(share)
    assert [entry["round"] for entry in pruned.history] == ["r1", "r2", "r3"]
    assert sum(int((~mask).sum()) for mask in pruned.masks.values()) == sum(
        layer.mlp.gate_proj.out_features - small.mlp.gate_proj.out_features
        for layer, small in zip(dense.model.layers, pruned.model.model.layers, strict=True)
    )
    assert all(torch.equal(weight, before[name]) for name, weight in dense.state_dict().items())
    assert all(weight.requires_grad for weight in dense.parameters())


def test_without_a_mixture_all_domains_count_alike(tiny_model: Make) -> None:
    text = tokens("news", "code")
    alike = prune_model(tiny_model(), text, SMALL.changed(mixture={"news": 1.0, "code": 1.0}))
    default = prune_model(tiny_model(), text, SMALL)
    one = prune_model(tiny_model(), text, SMALL.changed(mixture={"news": 1.0, "code": 0.0}))
    weights = [pruned.model.model.layers[0].mlp.down_proj.weight for pruned in (alike, default, one)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_domains_that_lost_more_weigh_more_from_the_second_round_on(tiny_model: Make) -> None:
    mask = SMALL.mask.changed(reweight=2.0, left_out=1)
    pruned = prune_model(tiny_model(), tokens("news", "code", "poems"), SMALL.changed(mask=mask))
    first, *later = pruned.history
    assert set(first["lost"].values()) == {0.0}
    assert first["weights"] == {"news": 1.0, "code": 1.0, "poems": 1.0}
    for before, entry in zip(pruned.history, later, strict=False):
        lost, weights = entry["lost"], entry["weights"]
        assert min(lost.values()) > 0
        rose = {name: weights[name] / before["weights"][name] for name in lost}
        assert sorted(rose, key=lambda name: rose[name]) == sorted(lost, key=lambda name: lost[name])
        assert sum(weights.values()) == pytest.approx(3.0)


def test_a_look_at_what_was_lost_alone_moves_no_weight(tiny_model: Make) -> None:
    settings = SMALL.changed(mask=SMALL.mask.changed(left_out=1), rounds={"only": 1.0})
    text = tokens("news", "code")
    plain, looked = (
        prune_model(tiny_model(), text, one) for one in (settings.changed(mask=SMALL.mask), settings)
    )
    assert all(torch.equal(mask, looked.masks[name]) for name, mask in plain.masks.items())
    assert "lost" not in looked.history[-1]


def test_every_step_is_named_before_it_begins(tiny_model: Make) -> None:
    steps: list[str] = []
    prune_model(tiny_model(), tokens("news"), SMALL.changed(rounds={"only": 1.0}), on_step=steps.append)
    assert steps == ["only", "surgery"]


REFUSED: dict[str, dict[str, Any]] = {
    "mixture: code: has text but no weight": {"mixture": {"news": 1.0}},
    "mixture: poems: has no text; its domains are news, code": {
        "mixture": {"news": 1.0, "code": 1.0, "poems": 1.0}
    },
    "mixture: {'news': 0.0, 'code': 0.0}: weights must": {"mixture": {"news": 0.0, "code": 0.0}},
    "prune.sparsity: 1.2: Input should be less than 1": {"prune.sparsity": 1.2},
    "prune.floor: 0: Input should be greater than 0": {"prune.floor": 0},
    "prune.widths: 'narrow': Input should be 'uniform' or 'per_layer'": {"prune.widths": "narrow"},
    "prune.width_multiple: 0: Input should be greater": {"prune.width_multiple": 0},
    "prune.sites.0: 'heads': Input should be 'attention_blocks', ": {"prune.sites": ["heads"]},
    "prune.sites: ['attention', 'query_heads']: attention takes": {
        "prune.sites": ["attention", "query_heads"]
    },
    "prune.sparsity: 0.2, prune.parameters: 9: only one target": {
        "prune.sparsity": 0.2,
        "prune.parameters": 9,
    },
    "prune.speed: unknown key": {"prune.speed": 3},
    "prune.memory.bytes: 9: prune.memory is given whole, as {": {"prune.memory.bytes": 9},
    "prune.sites: auto: prune_model takes kinds by name; call choose_kinds": {"prune.sites": "auto"},
    "prune.vocabulary.rows: 128: the tokenizer must be trimmed with": {"prune.vocabulary.rows": 128},
    "speed.prune: 3: unknown key; speed is no group": {"speed.prune": 3},
    "rounds: {'r1': 0.5}: the shares must rise": {"rounds": {"r1": 0.5}},
    "rounds: {}: the shares must rise": {"rounds": {}},
    "rounds: {'r1': 0.6, 'r2': 0.6, 'r3': 1.0}: the": {"rounds": {"r1": 0.6, "r2": 0.6, "r3": 1.0}},
    "mask.metric: 'best': Input should be 'fisher', 'taylor'": {"mask.metric": "best"},
    "mask.metric: taylor: needs gradients; set": {"capture.gradients": False},
    "mask.combine: 'best': Input should be 'sum', 'worst' or 'ranks'": {"mask.combine": "best"},
    "mask.own: 1: Input should be less than 1": {"mask.own": 1},
    "mask.reweight: 1: needs to know what was lost": {"mask.reweight": 1.0},
    "mask.left_out: 1: healing reads surgery.sequences: 22, which leaves fewer of news, code": {
        "mask.left_out": 1
    },
    "capture.sequences: 0: Input should be greater": {"capture.sequences": 0},
    "surgery.batch_size: 0: Input should be greater": {"surgery.batch_size": 0},
    "surgery.heal: 'herbs': Input should be 'none', ": {"surgery.heal": "herbs"},
    "surgery.alpha: 2: Input should be less": {"surgery.alpha": 2},
    "surgery.ridge: 0: Input should be greater": {"surgery.ridge": 0},
    "surgery.heal: least_squares: reconstruction starts from": {
        "surgery.heal": "least_squares",
        "surgery.reconstruct.epochs": 1,
    },
    "surgery.reconstruct.batch_size: 0: Input should be": {"surgery.reconstruct.batch_size": 0},
    "device: 'gpu': must be auto, cpu": {"device": "gpu"},
    "compute.device: cuda:99: not on this machine": {"device": "cuda:99"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_settings_out_of_their_range_are_refused_before_anything_runs(tiny_model: Make, message: str) -> None:
    steps: list[str] = []

    def run() -> None:
        settings = settings_of(REFUSED[message])
        prune_model(tiny_model(), tokens("news", "code"), settings, on_step=steps.append)

    with pytest.raises(InputError) as caught:
        run()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert steps == []


def test_rows_go_last_and_change_nothing_of_the_tokens_that_stay() -> None:
    tokenizer = byte_level()
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    dense = make_tiny_model(vocab_size=448, **ids)
    read = tokenizer(" ".join(TEXT))["input_ids"][:96]
    text = Text({"news": torch.tensor(read).view(4, 24)})
    rows = SMALL.prune.changed(vocabulary=SMALL.prune.vocabulary.changed(rows=320))
    whole = prune_model(dense, text, SMALL)
    small = prune_model(dense, text, SMALL.changed(prune=rows), tokenizer=tokenizer)
    assert whole.tokenizer is None
    assert small.tokenizer is not None
    assert len(small.tokenizer) == small.model.config.vocab_size == 320
    assert len(tokenizer) == 447
    before, after = tokenizer.get_vocab(), small.tokenizer.get_vocab()
    tokens = [token for token in tokenizer.convert_ids_to_tokens(read) if token in after]
    kept = sorted(after, key=after.__getitem__)
    expected = whole.model(torch.tensor([[before[token] for token in tokens]])).logits
    found = small.model(torch.tensor([[after[token] for token in tokens]])).logits
    torch.testing.assert_close(found, expected[..., [before[token] for token in kept]])


def test_counts_say_which_tokens_go() -> None:
    tokenizer = byte_level()
    dense = make_tiny_model(vocab_size=448, bos_token_id=None, eos_token_id=None)
    text = Text({"news": torch.tensor(tokenizer(" ".join(TEXT))["input_ids"][:96]).view(4, 24)})
    rows = SMALL.prune.changed(vocabulary=SMALL.prune.vocabulary.changed(rows=320))
    lengths = {}
    for counted in (TEXT[0], TEXT[2]):
        counts = {"news": count_tokens(tokenizer, [counted])}
        pruned = prune_model(dense, text, SMALL.changed(prune=rows), tokenizer=tokenizer, counts=counts)
        assert pruned.tokenizer is not None
        lengths[counted] = [len(pruned.tokenizer.tokenize(read)) for read in (TEXT[0], TEXT[2])]
    (english, russian) = lengths.values()
    assert english[0] < russian[0]
    assert english[1] > russian[1]


def test_too_little_text_to_choose_healing_by_is_refused_before_anything_runs(tiny_model: Make) -> None:
    steps: list[str] = []
    with pytest.raises(InputError, match=r"choice_sequences: 2: domain news has 3 .* healing reads 22"):
        prune_model(tiny_model(), tokens("news"), Settings(), on_step=steps.append)
    assert steps == []


def test_all_problems_are_named_at_once(tiny_model: Make) -> None:
    with pytest.raises(InputError) as caught:
        settings_of({"mask.metric": "best", "prune.sparsity": 0.0, "prune.floor": 2.0})
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({}, "text: has no domain"),
        (
            {"news": torch.full((2, 4), 258)},
            "news: has token ids from 258 to 258, but the model has 258",
        ),
        ({"news": torch.full((2, 4), -1)}, "text: news: has token ids from -1 to -1"),
        ({"news": torch.ones(4, dtype=torch.int64)}, r"text: news: torch.int64 \[4\]: must be int64"),
        ({"news": torch.ones(2, 4)}, r"text: news: torch.float32 \[2, 4\]: must be int64"),
        ({"news": torch.ones(0, 4, dtype=torch.int64)}, r"text: news: torch.int64 \[0, 4\]: must be"),
    ],
)
def test_text_that_is_not_the_models_is_refused(
    tiny_model: Make, text: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prune_model(tiny_model(), Text(text), SMALL)


def test_ids_without_a_text_around_them_are_refused_by_name(tiny_model: Make) -> None:
    ids: Any = {"news": torch.ones(2, 4, dtype=torch.int64)}
    with pytest.raises(InputError, match=r"^text: a dict: must be a Text; text\.calibration"):
        prune_model(tiny_model(), ids, SMALL)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"code": torch.ones(3, 12, dtype=torch.bool)},
            "text: answers: code: .* for no ids: must be bool",
        ),
        (
            {"news": torch.ones(3, 12)},
            r"news: torch.float32 \[3, 12\] for ids \[3, 12\]: must",
        ),
        (
            {"news": torch.ones(3, 11, dtype=torch.bool)},
            r"torch.bool \[3, 11\] for ids \[3, 12\]: must be",
        ),
        ({"news": torch.zeros(3, 12, dtype=torch.bool)}, "text: answers: news: has no token of an answer"),
    ],
)
def test_answers_that_are_not_those_of_the_text_are_refused(
    tiny_model: Make, answers: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prune_model(tiny_model(), Text(tokens("news").ids, answers), SMALL)


def test_dialogues_count_by_their_answers_alone(tiny_model: Make) -> None:
    text = tokens("news", "talk")
    answers = torch.zeros(3, 12, dtype=torch.bool)
    answers[:, 6:] = True
    settings = SMALL.changed(mixture={"news": 1.0, "talk": 1.0}, rounds={"r1": 1.0})
    whole = prune_model(tiny_model(), text, settings)
    by_answers = prune_model(tiny_model(), Text(text.ids, {"talk": answers}), settings)
    assert by_answers.history[0]["loss"]["news"] == whole.history[0]["loss"]["news"]
    assert by_answers.history[0]["loss"]["talk"] != whole.history[0]["loss"]["talk"]
    assert any(not torch.equal(mask, whole.masks[name]) for name, mask in by_answers.masks.items())
