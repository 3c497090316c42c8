"""Questions that a chat model writes, and its answers to them."""

from transformers import PreTrainedTokenizerBase

from secateurs.families.tokenizing import encode
from secateurs.settings.groups import Dialogues, Written
from secateurs.text.breadth import distinct
from secateurs.text.documents import Document
from secateurs.text.sampling import Draw, Lots, Writer
from secateurs.text.turns import Dialogue, Turns, to_json


def write_dialogues(
    writer: Writer,
    tokenizer: PreTrainedTokenizerBase,
    turns: Turns,
    settings: Dialogues,
    *,
    count: int,
    batch_size: int,
    key: str,
) -> list[Document]:
    """At most `count` conversations of a question and its answer (see text/conversations.py).

    The requests of the settings are gone through again and again: each is put to the model as a user's words,
    and what it answers is a question; where a request is empty, the question is what the model writes where
    its template expects the user's words. One of the closings is put after every question that was asked for.
    A question that does not end within its tokens is left out, and so is one that repeats others
    (breadth.distinct), and one without an answer; an answer stops at its tokens. The random numbers depend on
    `key` and the number of the dialogue alone.
    """
    ends = end_tokens_of(tokenizer, turns)

    def ids(text: str) -> list[int]:
        (found,) = encode(tokenizer, [text])
        return found

    def text(found: list[int]) -> str:
        return str(tokenizer.decode(found, skip_special_tokens=True)).strip()

    def written(
        prompts: list[str], how: Written, what: str, opening: tuple[int, float] = (0, 1.0)
    ) -> list[list[int]]:
        return writer(
            [ids(prompt) for prompt in prompts],
            how.tokens,
            Draw(how.temperature, how.min_p, opening),
            Lots(f"{what}:{key}", batch_size),
            ends=ends,
            label=what,
        )

    requests = [settings.requests[number % len(settings.requests)] for number in range(count)]
    prompts = [turns.before + (request + turns.between if request else "") for request in requests]
    questions = {}
    opening = (settings.opening.tokens, settings.opening.temperature)
    for number, found in enumerate(written(prompts, settings.question, "questions", opening)):
        question = text(found)
        if question and found[-1] in ends:
            # In turn within what each request was answered, so that all closings meet all requests.
            closing = settings.closings[number // len(settings.requests) % len(settings.closings)]
            questions[number] = question + (closing if requests[number] else "")
    numbers = list(questions)
    kept = [numbers[place] for place in distinct(list(questions.values()), settings.repeated)]
    questions = {number: questions[number] for number in kept}
    asked = [turns.before + question + turns.between for question in questions.values()]
    answers = written(asked, settings.answer, "answers")
    return [
        Document(f"dialogue-{number}", to_json(Dialogue(question, text(found), found[-1] in ends)), chat=True)
        for (number, question), found in zip(questions.items(), answers, strict=True)
        if text(found)
    ]


def end_tokens_of(tokenizer: PreTrainedTokenizerBase, turns: Turns) -> frozenset[int]:
    """The tokens that end a turn: the special ones, and what the template puts after the user's words."""
    (after,) = encode(tokenizer, [turns.between])
    return frozenset({*tokenizer.all_special_ids, *after[:1]})
