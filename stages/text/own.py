"""Text that a model writes for its own recovery: texts, and dialogues where it is a chat model."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.common.artifacts import Document
from stages.common.errors import InputError
from stages.common.params import OwnText
from stages.text.boundaries import start
from stages.text.chat_template import TemplateRefusalError, render_chat
from stages.text.conversations import to_json
from stages.text.sampling import go_on

# Stands for the user's words while a template is taken apart.
WORDS = "secateurs user words"


@dataclass(frozen=True)
class Turns:
    """A chat template around one question, in token ids.

    before: up to the user's words. between: from there to where the answer begins. ends: each ends a turn.
    """

    before: list[int]
    between: list[int]
    ends: frozenset[int]


def turns_of(tokenizer: PreTrainedTokenizerBase, where: Path) -> Turns:
    """Take the chat template of a tokenizer apart.

    Raises InputError, naming the directory `where` it is from, for a tokenizer without a template, or with
    one that refuses a single question.
    """
    try:
        whole = render_chat(tokenizer, [{"role": "user", "content": WORDS}], add_generation_prompt=True)
    except TemplateRefusalError as error:
        raise InputError(
            f"{where}: its tokenizer has no chat template for a question ({error}); set "
            "recover.own.dialogues: 0 and recover.mixture.dialogues: 0"
        ) from None
    before, _, between = whole.partition(WORDS)
    after = _ids(tokenizer, between)
    return Turns(_ids(tokenizer, before), after, frozenset({*tokenizer.all_special_ids, *after[:1]}))


def write_plain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: OwnText, where: Path
) -> list[Document]:
    """`settings.plain` texts of `settings.tokens` tokens each; not those of the sample stage."""
    written = go_on(
        model,
        [[start(tokenizer, where)]] * settings.plain,
        settings.tokens,
        temperature=settings.temperature,
        batch_size=settings.batch_size,
        key=f"texts:{settings.seed}",
        label="texts",
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=False)
    return [Document(f"text-{number}", text) for number, text in enumerate(texts)]


def write_dialogues(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: OwnText, where: Path
) -> list[Document]:
    """At most `settings.dialogues` conversations of a question and its answer (see text/conversations.py).

    Every second question is what the model writes where its template expects the user's words; the others are
    what it answers to the `settings.requests`, one after the other. A question that does not end within
    `settings.question_tokens` is left out, and so is one without an answer; an answer stops at
    `settings.tokens`. Raises InputError as turns_of does.
    """
    turns = turns_of(tokenizer, where)
    requests = [[*turns.before, *_ids(tokenizer, text), *turns.between] for text in settings.requests]
    prompts = [
        requests[number // 2 % len(requests)] if requests and number % 2 else turns.before
        for number in range(settings.dialogues)
    ]

    def written(prompts: list[list[int]], tokens: int, what: str) -> list[list[int]]:
        return go_on(
            model,
            prompts,
            tokens,
            temperature=settings.temperature,
            batch_size=settings.batch_size,
            key=f"{what}:{settings.seed}",
            ends=turns.ends,
            label=what,
        )

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()

    found = written(prompts, settings.question_tokens, "questions")
    questions = {n: text(ids) for n, ids in enumerate(found) if ids[-1] in turns.ends}
    questions = {number: question for number, question in questions.items() if question}
    asked = [[*turns.before, *_ids(tokenizer, question), *turns.between] for question in questions.values()]
    answers = map(text, written(asked, settings.tokens, "answers"))
    return [
        Document(f"dialogue-{number}", _conversation(question, answer), chat=True)
        for (number, question), answer in zip(questions.items(), answers, strict=True)
        if answer
    ]


def _conversation(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return to_json("dialogue", turns)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
