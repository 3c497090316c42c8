import copy

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from secateurs.checkpoints.shared_head import share_head
from tests.tiny import make_tiny_model


def quantised(weight: torch.Tensor, kind: Type) -> torch.Tensor:
    return torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), kind), kind))


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q5_0])
def test_two_quantisations_of_one_matrix_become_the_more_precise_one(kind: Type) -> None:
    model = make_tiny_model(tie_word_embeddings=False)
    head = model.lm_head.weight.detach()
    precise = quantised(head, Type.Q8_0)
    model.model.embed_tokens.weight.data, model.lm_head.weight.data = quantised(head, kind), precise
    difference = share_head(model)
    assert difference is not None
    assert 0 < difference < 0.15
    assert model.model.embed_tokens.weight is model.lm_head.weight
    assert torch.equal(model.lm_head.weight, precise)
    assert model.config.tie_word_embeddings


def test_a_shared_head_is_saved_once_and_loaded_shared(tmp_path) -> None:
    model = make_tiny_model(tie_word_embeddings=False)
    model.lm_head.weight.data = model.model.embed_tokens.weight.detach().clone()
    expected = model(torch.arange(9)[None]).logits
    share_head(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.num_parameters() == make_tiny_model(tie_word_embeddings=True).num_parameters()
    assert torch.equal(loaded(torch.arange(9)[None]).logits, expected)


def test_a_head_of_its_own_stays() -> None:
    model = make_tiny_model(tie_word_embeddings=False)
    before = copy.deepcopy(model.state_dict())
    assert share_head(model) is None
    assert not model.config.tie_word_embeddings
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_a_head_that_is_shared_already_stays() -> None:
    assert share_head(make_tiny_model(tie_word_embeddings=True)) is None
