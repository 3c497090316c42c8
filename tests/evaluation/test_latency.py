from collections.abc import Callable

import pytest
from transformers import LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.evaluation.latency import compare_latency, run_once


def watched(model: LlamaForCausalLM, name: str, calls: list[tuple[str, int]]) -> LlamaForCausalLM:
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append((name, kwargs["input_ids"].shape[1])), with_kwargs=True
    )
    return model


def test_models_take_turns_after_one_warm_up_each(tiny_model: Callable[..., LlamaForCausalLM]):
    calls: list[tuple[str, int]] = []
    this, against = (watched(tiny_model(), name, calls) for name in ("this", "against"))
    compare_latency(this, against, prompt_tokens=6, decode_tokens=2, repeats=3)
    one_run = [6, 1, 1]
    order = ["this", "against", "this", "against", "against", "this", "this", "against"]
    assert calls == [(name, tokens) for name in order for tokens in one_run]


def test_the_range_of_the_pairs_holds_their_ratio(tiny_model):
    found = compare_latency(tiny_model(), tiny_model(), prompt_tokens=6, decode_tokens=2, repeats=4)
    for phase in ("prefill_ms", "decode_ms_per_token"):
        low, middle, high = (getattr(one, phase) for one in (found.lowest, found.ratio, found.highest))
        assert low <= middle <= high


def test_decoding_continues_greedily_as_generate_does(tiny_model):
    model = tiny_model()
    fed: list[int] = []
    model.register_forward_pre_hook(
        lambda _module, _args, kwargs: fed.extend(kwargs["input_ids"][0].tolist()), with_kwargs=True
    )
    run_once(model, prompt_tokens=6, decode_tokens=3)
    ours = list(fed)
    prompt = model.dummy_inputs["input_ids"].new_tensor([ours[:6]])
    generated = model.generate(input_ids=prompt, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert ours == generated[0].tolist()


def test_ratio_is_below_one_for_a_much_smaller_model(tiny_model):
    small, large = tiny_model(), tiny_model(hidden_size=512, intermediate_size=4096, num_hidden_layers=4)
    result = compare_latency(small, large, prompt_tokens=64, decode_tokens=2, repeats=3)
    assert result.ratio.prefill_ms < 1
    assert result.this.prefill_ms < result.against.prefill_ms


def test_work_beyond_the_context_is_refused(tiny_model):
    small = tiny_model(max_position_embeddings=256)
    with pytest.raises(InputError, match="decode_tokens: 257: more than the model's context of 256"):
        compare_latency(small, tiny_model(), prompt_tokens=250, decode_tokens=7, repeats=1)
