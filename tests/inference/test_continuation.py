from transformers import AutoModelForCausalLM, AutoTokenizer

from secateurs.inference.continuation import NEW_TOKENS, PROMPTS, continue_prompts


def test_every_prompt_is_continued_without_being_repeated(dense_dir):
    tokenizer = AutoTokenizer.from_pretrained(dense_dir)
    samples = continue_prompts(AutoModelForCausalLM.from_pretrained(dense_dir), tokenizer)
    assert [sample["prompt"] for sample in samples] == list(PROMPTS)
    for sample in samples:
        assert len(tokenizer(sample["continuation"])["input_ids"]) <= 3 * NEW_TOKENS
        assert not sample["continuation"].startswith(sample["prompt"])
