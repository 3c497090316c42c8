"""The tokens that a chat template writes of its own, around every turn of every conversation."""

from transformers import PreTrainedTokenizerBase

from secateurs.text.chat_template import TemplateRefusalError, render_chat

_CONVERSATIONS = (("user",), ("user", "assistant"), ("system", "user", "assistant"))


def template_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of short conversations as the tokenizer's chat template writes them; none without a template.

    A conversation that the template refuses is left out. Raises InputError for a template that takes more
    than its limits of time and memory.
    """
    found: set[int] = set()
    if not tokenizer.chat_template:
        return found
    for roles in _CONVERSATIONS:
        turns = [{"role": role, "content": "a"} for role in roles]
        for prompt in (False, True):
            try:
                text = render_chat(tokenizer, turns, add_generation_prompt=prompt)
            except TemplateRefusalError:
                continue
            found.update(tokenizer(text, add_special_tokens=False)["input_ids"])
    return found
