"""A chat template is a program of somebody else's: it has so much time and memory, and no more."""

import time

import pytest

from stages.common.errors import InputError
from stages.text import chat_template
from stages.text.chat_template import TemplateRefusalError, render_chat
from tests.conftest import make_tiny_tokenizer

TURNS = [{"role": "user", "content": "Good morning"}]


def rendered(template: str) -> str:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    return render_chat(tokenizer, TURNS, add_generation_prompt=True)


def test_the_text_is_what_transformers_makes() -> None:
    template = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}{% endfor %}"
    template += "{% if add_generation_prompt %}:{% endif %}"
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    expected = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert rendered(template) == expected == "[user] Good morning:"


def test_a_template_that_loops_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 1.0)
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    started = time.monotonic()
    with pytest.raises(InputError, match="the model's chat template takes more than 1 s; take"):
        rendered(loop)
    assert time.monotonic() - started < 30


def test_a_template_that_fills_the_memory_is_stopped() -> None:
    with pytest.raises(InputError, match="the model's chat template takes more than 1,073,741,824 bytes"):
        rendered("{{ 'a' * 8000000000 }}")


def test_what_a_template_refuses_is_said_in_its_words() -> None:
    with pytest.raises(TemplateRefusalError, match="no such role"):
        rendered("{{ raise_exception('no such role') }}")


def test_a_template_does_not_reach_the_machine() -> None:
    with pytest.raises(TemplateRefusalError):
        rendered("{{ messages.__class__.__base__.__subclasses__() }}")
