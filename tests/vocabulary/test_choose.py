from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.checkpoints.saving import save_model, save_tokenizer
from secateurs.vocabulary.choose import rank_tokens, trim_vocabulary
from secateurs.vocabulary.ranking import Scripts, count_tokens
from tests.tiny import make_tiny_model
from tests.vocabulary.small import TEXT, byte_level


def test_what_the_chat_template_writes_stays() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (
        "{% for turn in messages %}<|start|>the quickest foxes{{ turn.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|start|>собаку{% endif %}"
    )
    model = make_tiny_model(vocab_size=512)
    counts = {"chinese": count_tokens(tokenizer, TEXT[3:4])}
    kept = rank_tokens(tokenizer, [model.config], counts, {"chinese": 1.0}).kept(320)
    turns = [{"role": "user", "content": "a"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert set(tokenizer(text)["input_ids"]) <= set(kept)
    assert set(tokenizer(TEXT[4])["input_ids"]) - set(kept)


def test_a_trimmed_checkpoint_reads_text_of_kept_tokens_as_the_dense_one(tmp_path: Path) -> None:
    tokenizer = byte_level()
    # More rows than tokens, as many models have.
    model = make_tiny_model(
        vocab_size=512, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id
    )
    counts = {"english": count_tokens(tokenizer, TEXT[:2]), "unread": count_tokens(tokenizer, TEXT[2:])}
    mixture = {"english": 1.0, "unread": 0.0}
    configs, scripts = (model.config, model.generation_config), Scripts(leave=("Han",))
    kept = rank_tokens(tokenizer, configs, counts, mixture, scripts).kept(384)
    dense = {text: tokenizer(text)["input_ids"] for text in TEXT[:2]}
    assert all(set(ids) <= set(kept) for ids in dense.values())
    expected = {text: model(torch.tensor([ids])).logits[..., kept] for text, ids in dense.items()}

    save_tokenizer(trim_vocabulary(model, tokenizer, kept), tmp_path)
    save_model(model, tmp_path)
    loaded, other = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXT[:2]:
        assert len(other(text)["input_ids"]) == len(dense[text])
        assert torch.equal(loaded(torch.tensor([other(text)["input_ids"]])).logits, expected[text])
    assert loaded.config.vocab_size == 384 == len(other)
    assert loaded.config.eos_token_id == loaded.generation_config.eos_token_id == other.eos_token_id
    assert other.decode(other(TEXT[3])["input_ids"]) == TEXT[3]
