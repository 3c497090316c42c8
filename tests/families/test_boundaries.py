import json
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from secateurs.errors import InputError
from secateurs.families.boundaries import prompt_ids, separator, start
from secateurs.text.conversations import check_conversations, contents, to_json
from secateurs.text.corpus import Split, build_corpus
from secateurs.text.documents import Document
from secateurs.text.packing import Tokens, tokens_of
from tests.text.test_corpus import settings
from tests.tiny import make_tiny_tokenizer

WHERE = Path("data/model")
TEMPLATE = (
    "{{ '<|im_start|>system\\nYou are a helpful assistant who never says anything more.<|im_end|>\\n' }}"
    "{% for turn in messages %}{{ '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
)


def tokenizer(end: str | None, *others: str, begin: str | None = None) -> PreTrainedTokenizerFast:
    made = make_tiny_tokenizer()
    names = [*others] if end is None else [*others, end]
    made.add_tokens([AddedToken(token, special=True) for token in names])
    made.bos_token, made.eos_token = begin, end
    return made


@pytest.mark.parametrize(
    ("end", "others", "expected"),
    [
        # Of Qwen2.5-Instruct, SmolLM2-Instruct; Llama-3.1-Instruct; Gemma-it; Llama-2, Mistral; GPT-2, Phi-3.
        ("<|im_end|>", ["<|endoftext|>"], "<|endoftext|>"),
        ("<|eot_id|>", ["<|end_of_text|>"], "<|end_of_text|>"),
        ("<end_of_turn>", ["<eos>"], "<eos>"),
        ("</s>", ["<|endoftext|>"], "</s>"),
        ("<|endoftext|>", [], "<|endoftext|>"),
    ],
)
def test_texts_are_separated_by_the_end_of_text_and_not_of_a_turn(
    end: str, others: list[str], expected: str
) -> None:
    # The tiny tokenizer has </s>; a vocabulary of another family has not.
    made = tokenizer(end, *others)
    assert separator(made, WHERE) == made.convert_tokens_to_ids(expected)


def without_known_ends(end: str | None) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "[END]": 1}, merges=[]))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end)


def test_an_end_token_of_an_unknown_name_separates_where_there_is_no_other() -> None:
    assert separator(without_known_ends("[END]"), WHERE) == 1


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="data/model: its tokenizer has no end-of-text token"):
        separator(without_known_ends(None), WHERE)


def test_a_text_starts_from_the_separator_or_from_what_the_tokenizer_begins_with() -> None:
    instruct = tokenizer("<|im_end|>", "<|endoftext|>", begin="<|im_start|>")
    assert start(instruct, WHERE) == instruct.convert_tokens_to_ids("<|endoftext|>")
    adding = make_tiny_tokenizer()
    adding.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", adding.bos_token_id)]
    )
    assert start(adding, WHERE) == adding.bos_token_id
    assert tokens_of(adding, WHERE).before == (adding.bos_token_id,)


@pytest.mark.parametrize("pattern", ["<s> $A", "$A </s>", "<s> $A </s>", "$A"])
def test_a_prompt_has_what_stands_before_a_text_and_nothing_after_it(pattern: str) -> None:
    made = ending(pattern)
    begin = [made.bos_token_id] if "<s>" in pattern else []
    assert prompt_ids(made, "ab") == [*begin, *make_tiny_tokenizer()("ab")["input_ids"]]


def ending(pattern: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with beginning and end token around each text, as a pattern says."""
    made = make_tiny_tokenizer()
    special = [(token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>") if token in pattern]
    made.backend_tokenizer.post_processor = TemplateProcessing(single=pattern, special_tokens=special)
    return made


def chatting() -> PreTrainedTokenizerFast:
    made = tokenizer("<|im_end|>", "<|endoftext|>", "<|im_start|>")
    made.chat_template = TEMPLATE
    return made


def chat(number: int) -> Document:
    turns = [
        {"role": "user", "content": f"q{number} a{number} b{number}"},
        {"role": "assistant", "content": "ok"},
    ]
    return Document(f"d{number}", to_json("file:1", turns), chat=True)


def chat_corpus(tokens: Tokens) -> tuple[Split, Split]:
    chats = [chat(number) for number in range(120)]
    return build_corpus({"a": chats}, tokens, set(), settings(ngram=3, sequence_length=256))


def test_conversations_are_rendered_by_the_chat_template_and_separated_as_texts() -> None:
    made = chatting()
    calibration, _ = chat_corpus(tokens_of(made, WHERE))
    text = made.decode([token for row in calibration.sequences[:4] for token in row.input_ids])
    assert "<|im_start|>user\nq" in text
    assert "<|im_end|>\n<|endoftext|><|im_start|>system" in text


def test_what_a_template_adds_to_every_conversation_is_no_overlap() -> None:
    calibration, _ = chat_corpus(tokens_of(chatting(), WHERE))
    assert calibration.counts["a"].overlap_heldout == 0


def test_a_tokenizer_without_a_template_cannot_render_a_conversation() -> None:
    tokens = tokens_of(make_tiny_tokenizer(), WHERE)
    with pytest.raises(InputError, match="needs a chat template, and the model's tokenizer has none"):
        chat_corpus(tokens)


def test_turns_without_words_and_other_keys_are_left_out() -> None:
    turns = [
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "hi", "name": "x"},
    ]
    assert contents(to_json("file:1", turns)) == ["hi"]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"from": "human", "value": "hi"}, ("user", "hi")),
        ({"from": "gpt", "value": "hi"}, ("assistant", "hi")),
        ({"from": "system", "value": "hi"}, ("system", "hi")),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}, ("user", "a\nb")),
        ({"role": "user", "content": "hi", "from": None, "value": None}, ("user", "hi")),
        ({"from": "human", "value": "hi", "role": None}, ("user", "hi")),
    ],
)
def test_other_ways_to_write_a_turn_are_read(turn: dict[str, object], expected: tuple[str, str]) -> None:
    ((found),) = json.loads(to_json("file:1", [turn]))
    assert (found["role"], found["content"]) == expected


REFUSING = (
    "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
)
REFUSING += "{{ turn.content }};{% endfor %}"


def with_a_system_turn(number: int) -> Document:
    turns = json.loads(chat(number).text)
    return Document(f"f:{number}", to_json("f", [{"role": "system", "content": "be"}, *turns]), chat=True)


def test_a_conversation_that_the_template_refuses_is_named_or_dropped_and_counted() -> None:
    made = chatting()
    made.chat_template = REFUSING
    tokens = tokens_of(made, WHERE)
    chats = [chat(number) for number in range(120)] + [
        with_a_system_turn(number) for number in range(200, 220)
    ]
    message = (
        r"^domains\.a: f:2\d\d: the model's chat template refuses it: no system; correct the row, or have "
        r"such rows left out and counted: domains\.a\.refused: drop$"
    )
    options = settings(ngram=3, sequence_length=16, calibration_sequences=60, heldout_sequences=30)
    with pytest.raises(InputError, match=message):
        build_corpus({"a": chats}, tokens, set(), options)
    with pytest.raises(InputError, match=message):
        check_conversations("a", chats, tokens.render, may_drop=False)
    splits = build_corpus({"a": chats}, replace(tokens, may_drop=frozenset("a")), set(), options)
    counted = [split.metadata(options)["domains"]["a"] for split in splits]  # type: ignore[index]
    assert 5 < sum(one.get("refused", 0) for one in counted) <= 20


@pytest.mark.parametrize(
    "messages",
    [
        "text",
        [{"role": "user"}],
        [1],
        [{"from": 3, "value": "hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        [{"role": "user", "content": 3}],
    ],
)
def test_what_is_no_conversation_is_refused(messages: object) -> None:
    with pytest.raises(InputError, match="file:1: not a conversation; it must be a list of turns"):
        to_json("file:1", messages)
