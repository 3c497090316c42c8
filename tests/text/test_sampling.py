from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.settings.groups import Sample
from secateurs.text import sampling
from secateurs.text.documents import Document
from secateurs.text.sampling import Draw, Lots, go_on, sample_documents
from tests.project import read_yaml
from tests.tiny import make_tiny_model, make_tiny_tokenizer

Factory = Callable[..., LlamaForCausalLM]


def sampled(model: LlamaForCausalLM, **changes: Any) -> list[Document]:
    fields = read_yaml()["sample"] | {"documents": 5, "tokens": 12, "batch_size": 5}
    settings = Sample.model_validate({**fields, **changes})
    return sample_documents(partial(go_on, model), make_tiny_tokenizer(), settings, Path("model"))


def test_a_seed_gives_the_same_text_in_any_batch(tiny_model: Factory) -> None:
    model = tiny_model()
    assert sampled(model) == sampled(model, batch_size=2)


def test_a_document_does_not_depend_on_how_many_there_are(tiny_model: Factory) -> None:
    model = tiny_model()
    assert sampled(model)[:2] == sampled(model, documents=2)


def test_another_seed_gives_other_text(tiny_model: Factory) -> None:
    model = tiny_model()
    assert sampled(model) != sampled(model, seed=1)


def test_a_low_temperature_is_greedy_decoding(tiny_model: Factory) -> None:
    model, tokenizer = tiny_model(), make_tiny_tokenizer()
    start = tokenizer("", return_tensors="pt")["input_ids"].new_tensor([[tokenizer.eos_token_id]]).long()
    written = model.generate(start, max_new_tokens=12, min_new_tokens=12, do_sample=False, eos_token_id=-1)
    greedy = tokenizer.decode(written[0, 1:])
    assert {item.text for item in sampled(model, temperature=0.001)} == {greedy}


def test_logits_that_are_not_numbers_are_refused(tiny_model: Factory) -> None:
    model = tiny_model().half()
    # Activations beyond what float16 holds: infinite in the layer, no number after its norm.
    model.model.layers[1].mlp.down_proj.weight.data.fill_(60000.0)
    message = r"compute.dtype: float16: the model's logits are not finite, .* use bfloat16 or float32"
    with pytest.raises(InputError, match=message):
        sampled(model)


def test_prompts_of_unequal_length_go_on_as_each_does_alone() -> None:
    model = make_tiny_model().requires_grad_(False)
    prompts = [[5, 9, 40, 77, 120], [8], [30, 31, 32]]
    together, alone = (go_on(model, prompts, 10, Draw(1.0), Lots("k", size)) for size in (3, 1))
    assert together == alone
    assert [len(ids) for ids in together] == [10, 10, 10]


def test_a_text_ends_with_the_first_of_the_ends() -> None:
    model = make_tiny_model().requires_grad_(False)
    whole = go_on(model, [[5], [9]], 12, Draw(1.0), Lots("k", 2))
    end = whole[0][4]
    ended = go_on(model, [[5], [9]], 12, Draw(1.0), Lots("k", 2), ends=frozenset({end}))
    for ids, short in zip(whole, ended, strict=True):
        assert short == (ids[: ids.index(end) + 1] if end in ids else ids)


def test_texts_that_end_leave_the_batch_and_the_others_go_on_as_each_does_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "LOOK", 2)
    model = make_tiny_model().requires_grad_(False)
    prompts, ends = [[5, 9], [8], [30, 31, 32], [9], [77, 5]], frozenset(range(60))
    sizes = []
    before = sampling._choose
    monkeypatch.setattr(
        sampling, "_choose", lambda logits, *rest: sizes.append(len(logits)) or before(logits, *rest)
    )
    together = go_on(model, prompts, 20, Draw(1.0), Lots("k", 5), ends=ends)
    assert sizes[0] == 5 > sizes[-1]
    alone = go_on(model, prompts, 20, Draw(1.0), Lots("k", 1), ends=ends)
    assert together == alone
    assert len({len(ids) for ids in together}) > 2


def test_tokens_far_less_likely_than_the_likeliest_are_never_drawn() -> None:
    model = make_tiny_model().requires_grad_(False)
    prompts = [[5]] * 200
    with torch.no_grad():
        likely = model(torch.tensor([[5]])).logits[0, -1].softmax(-1)
    allowed = set((likely >= 0.3 * likely.max()).nonzero().flatten().tolist())
    drawn = {
        min_p: {ids[0] for ids in go_on(model, prompts, 1, Draw(1.0, min_p), Lots("k", 200))}
        for min_p in (0.0, 0.3)
    }
    assert 1 < len(allowed) < 100
    assert drawn[0.3] <= allowed
    assert not drawn[0.0] <= allowed


@pytest.mark.parametrize("min_p", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_is_where_the_cumulative_probability_passes_the_draw(
    min_p: float, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    # bfloat16 gives several tokens the same logit; the last row is as flat as can be.
    logits = (4 * torch.randn(40, 300, generator=generator)).to(dtype)
    logits[-1] = 0.0
    draws = torch.rand(40, generator=generator, dtype=torch.float64)

    found = sampling._choose(logits, draws, sampling.Draw(0.7, min_p)).tolist()

    for row, draw, token in zip(logits.double().numpy() / 0.7, draws.tolist(), found, strict=True):
        odds = np.exp(row - row.max())
        odds[odds < min_p] = 0.0
        assert token == int(np.argmax(np.cumsum(odds) / odds.sum() > draw))
