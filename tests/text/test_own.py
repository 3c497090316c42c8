"""Text that a model writes for its own recovery."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from stages.common.errors import InputError
from stages.common.params import OwnText
from stages.text import chat_template
from stages.text.own import turns_of, write_dialogues, write_plain
from stages.text.sampling import go_on
from tests.conftest import make_tiny_model, make_tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)
WHERE = Path("data/model")


def chat_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def settings(**changes: Any) -> OwnText:
    fields = {
        "plain": 3,
        "dialogues": 12,
        "tokens": 20,
        "question_tokens": 60,
        "temperature": 1.0,
        "batch_size": 5,
        "seed": 0,
        "requests": ["Ask!", "Ask something longer."],
    }
    return OwnText.model_validate(fields | changes)


def test_prompts_of_unequal_length_go_on_as_each_does_alone() -> None:
    model = make_tiny_model().requires_grad_(False)
    prompts = [[5, 9, 40, 77, 120], [8], [30, 31, 32]]
    together, alone = (
        go_on(model, prompts, 10, temperature=1.0, batch_size=size, key="k") for size in (3, 1)
    )
    assert together == alone
    assert [len(ids) for ids in together] == [10, 10, 10]


def test_a_text_ends_with_the_first_of_the_ends() -> None:
    model = make_tiny_model().requires_grad_(False)
    whole = go_on(model, [[5], [9]], 12, temperature=1.0, batch_size=2, key="k")
    end = whole[0][4]
    ended = go_on(model, [[5], [9]], 12, temperature=1.0, batch_size=2, key="k", ends=frozenset({end}))
    for ids, short in zip(whole, ended, strict=True):
        assert short == (ids[: ids.index(end) + 1] if end in ids else ids)


def test_a_template_is_taken_apart_around_the_users_words() -> None:
    tokenizer = chat_tokenizer()
    turns = turns_of(tokenizer, WHERE)
    assert tokenizer.decode(turns.before) == "<s>user:"
    assert tokenizer.decode(turns.between) == "</s><s>assistant:"
    assert turns.ends == {0, 1}


def test_a_tokenizer_without_a_template_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"data/model: .* no chat template .* recover.own.dialogues: 0"):
        turns_of(make_tiny_tokenizer(), WHERE)


def test_dialogues_are_conversations_of_a_question_that_ended_and_its_answer() -> None:
    model, tokenizer = make_tiny_model().requires_grad_(False), chat_tokenizer()
    found = write_dialogues(model, tokenizer, settings(), WHERE)
    assert 0 < len(found) <= 12
    for document in found:
        assert document.chat
        question, answer = json.loads(document.text)
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["content"]
        assert 0 < len(answer["content"]) <= 20
    assert found == write_dialogues(model, tokenizer, settings(batch_size=12), WHERE)
    assert found != write_dialogues(model, tokenizer, settings(seed=1), WHERE)


def test_plain_texts_are_as_many_as_asked_for() -> None:
    model = make_tiny_model().requires_grad_(False)
    found = write_plain(model, chat_tokenizer(), settings(), WHERE)
    assert len({document.text for document in found}) == 3
    assert not any(document.chat for document in found)


def test_a_template_that_loops_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(InputError, match="the model's chat template takes more than 1 s; take"):
        turns_of(tokenizer, WHERE)
