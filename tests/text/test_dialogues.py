"""Questions that a chat model writes, and its answers to them."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from secateurs.errors import InputError
from secateurs.settings.groups import Dialogues
from secateurs.text import chat_template, dialogues
from secateurs.text.dialogues import write_dialogues
from secateurs.text.documents import Document
from secateurs.text.sampling import go_on
from secateurs.text.turns import Dialogue, Turns, from_json, to_json, turns_of
from tests.tiny import make_tiny_model, make_tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)
WHERE = Path("data/model")


def chat_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def written(
    batch_size: int = 5, key: str = "0", write: Callable[..., Any] = go_on, **changes: Any
) -> list[Document]:
    fields = {
        "count": 1,
        "parts": 1,
        "repeated": 1.0,
        "opening": {"tokens": 0, "temperature": 1.0},
        "question": {"tokens": 60, "temperature": 1.0, "min_p": 0.0},
        "answer": {"tokens": 20, "temperature": 1.0, "min_p": 0.0},
        "requests": ["Ask!", "", "Ask something longer."],
        "closings": ["", " Why?"],
    }
    settings = Dialogues.model_validate(fields | changes)
    model, tokenizer = make_tiny_model().requires_grad_(False), chat_tokenizer()
    turns = turns_of(tokenizer, WHERE, "remedy")
    return write_dialogues(
        partial(write, model), tokenizer, turns, settings, count=12, batch_size=batch_size, key=key
    )


def test_a_template_is_taken_apart_around_a_question_and_its_answer() -> None:
    assert turns_of(chat_tokenizer(), WHERE, "remedy") == Turns("<s>user:", "</s><s>assistant:", "</s>")


def test_a_tokenizer_without_a_template_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"data/model: .* no chat template .*; set x: 0$"):
        turns_of(make_tiny_tokenizer(), WHERE, "set x: 0")


def test_a_template_that_changes_the_words_of_a_turn_is_refused() -> None:
    template = TEMPLATE.replace("m['content']", "m['content'] | upper")
    with pytest.raises(
        InputError, match=r"data/model: its chat template does not write the words .*; set x: 0$"
    ):
        turns_of(chat_tokenizer(template), WHERE, "set x: 0")


def test_a_template_that_loops_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(InputError, match="the model's chat template takes more than 1 s; take"):
        turns_of(chat_tokenizer(loops), WHERE, "remedy")


def test_dialogues_are_conversations_of_a_question_that_ended_and_its_answer() -> None:
    found = written()
    assert 0 < len(found) <= 12
    for document in found:
        assert document.chat
        question, answer = json.loads(document.text)
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert question["content"]
        assert 0 < len(answer["content"]) <= 20
    assert found == written(batch_size=12)
    assert found != written(key="1")


@pytest.mark.parametrize(("tokens", "ended"), [(1, False), (2000, True)])
def test_it_is_known_whether_an_answer_came_to_its_end(tokens: int, ended: bool) -> None:
    found = written(answer={"tokens": tokens, "temperature": 1.0, "min_p": 0.0})
    assert {from_json(one.text).ended for one in found} == {ended}


def test_only_what_was_asked_for_gets_a_closing() -> None:
    bare, closed = written(closings=[""]), written()
    added = {
        int(one.document.partition("-")[2])
        for one, other in zip(bare, closed, strict=True)
        if from_json(other.text).question == from_json(one.text).question + " Why?"
    }
    there = {int(one.document.partition("-")[2]) for one in bare}
    # Of three requests the second is empty, and every second time through them the closing is the other one.
    assert added == {number for number in there if number // 3 % 2 and number % 3 != 1}
    assert added


def test_what_the_model_is_given_is_the_template_around_a_request_or_its_beginning() -> None:
    tokenizer, asked = chat_tokenizer(), []

    def spy(model: Any, prompts: list[list[int]], *others: Any, **named: Any) -> list[list[int]]:
        asked.append([tokenizer.decode(ids) for ids in prompts])
        return go_on(model, prompts, *others, **named)

    found = written(closings=[""], write=spy)
    requests, questions = asked
    assert requests[:3] == [
        "<s>user:Ask!</s><s>assistant:",
        "<s>user:",
        "<s>user:Ask something longer.</s><s>assistant:",
    ]
    answered = {f"<s>user:{from_json(one.text).question}</s><s>assistant:" for one in found}
    assert answered <= set(questions)


def test_a_dialogue_comes_back_from_its_json() -> None:
    dialogue = Dialogue("Wie geht's?", "Gut.\n", ended=False)
    assert from_json(to_json(dialogue)) == dialogue


def test_the_opening_of_a_question_is_drawn_at_a_temperature_of_its_own() -> None:
    # So cold, the first byte is the likeliest one; so hot, it is any.
    cold, hot = (
        {
            from_json(one.text).question[:1]
            for one in written(
                requests=[""], closings=[""], opening={"tokens": 1, "temperature": temperature}
            )
        }
        for temperature in (0.001, 1000.0)
    )
    assert len(cold) == 1
    assert len(hot) > 1


def test_a_question_that_repeats_others_gets_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    every = written()
    # A random model does not repeat itself, so the second question is said to.
    monkeypatch.setattr(dialogues, "distinct", lambda texts, most: [0, *range(2, len(texts))])
    rest = written(repeated=0.5)
    asked = [from_json(one.text).question for one in every]
    assert [from_json(one.text).question for one in rest] == [asked[0], *asked[2:]]
    assert [one.document for one in rest] == [every[0].document, *(one.document for one in every[2:])]
