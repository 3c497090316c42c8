from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from secateurs.errors import InputError
from secateurs.vocabulary.embedding_rows import cut_vocabulary, named_ids, vocabulary_rows
from tests.tiny import make_tiny_model

KEPT = [0, 1, 5, 6, *range(20, 140, 2), 256]
IDS = {old: new for new, old in enumerate(KEPT)}


def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_the_same(tied: bool, tmp_path: Path) -> None:
    model = make_tiny_model(tie_word_embeddings=tied)
    text = [0, 20, 22, 138, 256, 5]
    expected = logits(model, text)[..., KEPT]
    cut_vocabulary(model, IDS)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    for one in (model, loaded):
        assert torch.equal(logits(one, [IDS[index] for index in text]), expected)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    assert vocabulary_rows(loaded) == loaded.config.vocab_size == len(KEPT)


def test_every_id_of_the_configs_names_the_same_token() -> None:
    model = make_tiny_model(bos_token_id=5, eos_token_id=[20, 256, 257], pad_token_id=256)
    generation = model.generation_config
    generation.suppress_tokens, generation.bad_words_ids = [6, 7, 22], [[5, 6], [6, 7]]
    generation.max_new_tokens, model.config.image_token_id = 20, 24
    generation.pad_token_id = 250
    assert named_ids(model.config, generation) == {5, 20, 256, 257, 250, 24}
    cut_vocabulary(model, IDS)
    config = model.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (2, [4, IDS[256]], IDS[256])
    assert (config.image_token_id, generation.max_new_tokens) == (6, 20)
    assert (generation.suppress_tokens, generation.bad_words_ids) == ([3, 5], [[2, 3]])
    assert generation.pad_token_id is None
    assert model.get_input_embeddings().padding_idx == IDS[256]


def test_generation_ends_at_the_same_token() -> None:
    model = make_tiny_model()
    written = model.generate(torch.tensor([[20, 22]]), max_new_tokens=12, do_sample=False)[0].tolist()
    kept = sorted(set(written))
    ids = {old: new for new, old in enumerate(kept)}
    end = written[6]
    model.generation_config.eos_token_id = end
    stopped = model.generate(torch.tensor([[20, 22]]), max_new_tokens=12, do_sample=False)[0].tolist()
    cut_vocabulary(model, ids)
    again = model.generate(torch.tensor([[ids[20], ids[22]]]), max_new_tokens=12, do_sample=False)
    assert again[0].tolist() == [ids[index] for index in stopped]
    assert len(stopped) < len(written)


def test_tables_of_a_vector_for_each_layer_are_cut_too() -> None:
    torch.manual_seed(0)
    config = Gemma3nTextConfig(
        vocab_size=264, vocab_size_per_layer_input=256, hidden_size=32, hidden_size_per_layer_input=8,
        intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        laurel_rank=4, num_kv_shared_layers=0, layer_types=["full_attention"] * 2, pad_token_id=0,
        activation_sparsity_pattern=[0.0, 0.0], altup_num_inputs=2,
    )  # fmt: skip
    model = Gemma3nForCausalLM(config).eval()
    text = [0, 20, 22, 138, 5]
    expected = logits(model, text)[..., KEPT]
    cut_vocabulary(model, IDS)
    found = logits(model, [IDS[index] for index in text])
    assert torch.allclose(found, expected, atol=1e-6)
    assert model.config.vocab_size_per_layer_input == sum(index < 256 for index in KEPT) == len(KEPT) - 1


def test_another_table_of_the_vocabulary_is_refused() -> None:
    model: LlamaForCausalLM = make_tiny_model()
    model.other = torch.nn.Linear(4, 258)
    with pytest.raises(InputError, match=r"other.weight: has a row for each of 258 tokens"):
        cut_vocabulary(model, IDS)
