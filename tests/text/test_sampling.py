from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

from stages.common.artifacts import Document
from stages.common.errors import InputError
from stages.common.params import Sample
from stages.text.sampling import sample_documents
from tests.conftest import make_tiny_tokenizer

Factory = Callable[..., LlamaForCausalLM]


def sampled(model: LlamaForCausalLM, **changes: Any) -> list[Document]:
    fields = {"documents": 5, "tokens": 12, "temperature": 1.0, "batch_size": 5, "seed": 0}
    settings = Sample.model_validate({**fields, **changes})
    return sample_documents(model, make_tiny_tokenizer(), settings, Path("model"))


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
    message = (
        r"params.yaml: compute.dtype: float16: the model's logits are not finite, .* use bfloat16 or float32"
    )
    with pytest.raises(InputError, match=message):
        sampled(model)
