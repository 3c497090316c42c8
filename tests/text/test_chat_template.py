"""A chat template is a program of somebody else's: it has so much time and memory, and no more."""

import multiprocessing
import os
import signal
import time

import pytest

from secateurs.errors import InputError
from secateurs.text import chat_template
from secateurs.text.chat_template import TemplateRefusalError, render_chat
from tests.tiny import make_tiny_tokenizer

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


def test_one_process_renders_all_conversations_of_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, texts, started = make_tiny_tokenizer(), [], []
    begin = multiprocessing.Process.start
    monkeypatch.setattr(
        multiprocessing.process.BaseProcess, "start", lambda self: (started.append(self), begin(self))
    )
    for template in ("{{ messages[0].content }}", "<{{ messages[0].content }}>"):
        tokenizer.chat_template = template
        texts += [render_chat(tokenizer, [{"role": "user", "content": str(n)}]) for n in range(3)]
    assert len(started) == 2
    assert texts == ["0", "1", "2", "<0>", "<1>", "<2>"]


def test_a_template_that_was_stopped_is_asked_anew() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{% if messages[0].content == 'big' %}{{ 'a' * 8000000000 }}{% endif %}small"
    with pytest.raises(InputError, match="bytes"):
        render_chat(tokenizer, [{"role": "user", "content": "big"}])
    assert render_chat(tokenizer, TURNS) == "small"


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


FAILING = {
    "a division by zero": ("{{ 1/0 }}", "ZeroDivisionError: division by zero"),
    "a macro that calls itself": (
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "RecursionError: maximum recursion depth exceeded",
    ),
    "brackets in brackets": (
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "RecursionError: maximum recursion",
    ),
    "loops in loops": (
        "{% for a in [1] %}" * 60 + "{% endfor %}" * 60,
        "SyntaxError: too many statically nested",
    ),
    "a key that is not there": ("{{ {}['a'].b }}", "'dict object' has no attribute 'a'"),
    "a number and a text": ("{{ 1 + 'a' }}", "TypeError: unsupported operand"),
    "what the sandbox forbids": (
        "{{ ''.__class__.__mro__ }}",
        "access to attribute '__class__' of 'str' object",
    ),
    "no template": ("{% if %}", "Expected an expression, got 'end of statement block'"),
    "pages of words": ("{{ raise_exception('no ' * 9000) }}", "no no no"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_template_that_fails_is_said_to_and_prints_nothing(
    case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    template, said = FAILING[case]
    with pytest.raises(TemplateRefusalError) as caught:
        rendered(template)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) <= 200
    assert capfd.readouterr().err == ""


def test_a_template_that_fails_at_one_conversation_renders_the_next_one() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = "{{ 1 / (messages | length - 1) }}"
    with pytest.raises(TemplateRefusalError, match="ZeroDivisionError"):
        render_chat(tokenizer, TURNS)
    assert render_chat(tokenizer, TURNS * 2) == "1.0"


def test_a_process_that_ends_otherwise_is_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_rendered", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(
        InputError, match=r"chat template ends the process that renders it \(status -9\); take"
    ):
        rendered("{{ 1 }}")
