"""What a recovery reads: calibration text and the dense model's own, and what of it is left out."""

import math
from collections.abc import Collection, Iterable, Mapping

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.recover.questions import questions_of
from secateurs.recover.training import Questions
from secateurs.settings.recovery import OWN_KINDS
from secateurs.text.documents import Sequence
from secateurs.text.turns import NO_OWN_DIALOGUES, from_json, turns_of
from stages.common.artifacts import read_documents
from stages.common.paths import OWN_TEXT, PRUNED
from stages.params.file import Params

CALIBRATION_KIND = "calibration text"


def recovery_mixture(params: Params) -> dict[str, float]:
    """The share of each domain that counts, together 1: `recover.mixture`, that of calibration divided by
    `mixture`."""
    shares = params.recover.mixture
    domains = {domain: weight for domain, weight in params.mixture.items() if weight > 0}
    found = {
        domain: shares.calibration * weight / sum(domains.values()) for domain, weight in domains.items()
    }
    found |= {domain: getattr(shares, kind) for kind, domain in OWN_KINDS.items()}
    whole = sum(found.values())
    return {domain: share / whole for domain, share in found.items() if share > 0}


def rows_left_out(params: Params) -> dict[str, int]:
    """How many sequences of each domain are not trained on.

    They are `recover.left_out` of each calibration domain, and of each kind of own text as many as of all
    those together.
    """
    mixture, own = recovery_mixture(params), set(OWN_KINDS.values())
    count = params.recover.left_out
    calibration = sum(domain not in own for domain in mixture)
    return {domain: count * max(1, calibration) if domain in own else count for domain in mixture}


def rows_drawn(params: Params) -> dict[str, int]:
    """How many sequences of each domain a recovery can read: what it draws, and what it leaves out.

    For `recover.abilities.questions` as many of own dialogues as these fill at their longest.
    """
    mixture, left_out = recovery_mixture(params), rows_left_out(params)
    draws, how = params.recover.steps * params.recover.batch_size, params.sample.dialogues
    longest = params.recover.abilities.questions * (how.question.tokens + how.answer.tokens)
    asked = {OWN_KINDS["dialogues"]: math.ceil(longest / params.corpus.sequence_length)}
    # Rounded up, because a domain is drawn in its proportion to within one sequence.
    return {
        domain: math.ceil(draws * share) + 1 + left_out[domain] + asked.get(domain, 0)
        for domain, share in mixture.items()
    }


OWN_DIALOGUES = OWN_TEXT / "dialogues.parquet"


def own_questions(
    tokenizer: PreTrainedTokenizerBase, sequences: Iterable[Sequence], trained: int
) -> Questions:
    """The questions of the own dialogues among the sequences that are trained on, which are the first ones.

    What overlaps with held-out text or an item is not among the sequences, and a question that also stands in
    one of those left out is not asked.
    """
    rows = _dialogue_rows(sequences)
    there, left_out = ({name for row in part for name in row} for part in (rows[:trained], rows[trained:]))
    return _questions(tokenizer, there - left_out)


def left_out_questions(
    tokenizer: PreTrainedTokenizerBase, sequences: Iterable[Sequence], count: int
) -> tuple[Questions, int]:
    """The questions of the last `count` own dialogues, and how many of the last rows must be left out for it.

    None of these dialogues begins in a row before those. Raises InputError where no row would be left to
    train on.
    """
    rows, begins = _dialogue_rows(sequences), dict[str, int]()
    for number, row in enumerate(rows):
        for name in row:
            begins.setdefault(name, number)
    last = list(begins)[-count:]
    if len(last) < count or not begins[last[0]]:
        raise InputError(
            f"params.yaml: recover.abilities.questions: {count}: there are {len(begins)} own dialogues in "
            f"{len(rows)} sequences, of which none would be left to train on; lower it, or raise "
            "recover.own.dialogues"
        )
    return _questions(tokenizer, last), len(rows) - begins[last[0]]


def _dialogue_rows(sequences: Iterable[Sequence]) -> list[tuple[str, ...]]:
    return [row.documents for row in sequences if row.domain == OWN_KINDS["dialogues"]]


def _questions(tokenizer: PreTrainedTokenizerBase, names: Collection[str]) -> Questions:
    dialogues = [one for one in read_documents(OWN_DIALOGUES) if one.document in names]
    turns = turns_of(tokenizer, PRUNED, NO_OWN_DIALOGUES)
    return questions_of(tokenizer, turns, [from_json(one.text).question for one in dialogues])


def by_kind(values: Mapping[str, float], mixture: Mapping[str, float]) -> dict[str, float]:
    """The means of domains' values by kind of text, each domain counting its share of `mixture`."""
    return {
        kind: sum(mixture[domain] * values[domain] for domain in domains)
        / sum(mixture[domain] for domain in domains)
        for kind, domains in _kinds(values).items()
    }


def shares_of_kinds(mixture: Mapping[str, float]) -> dict[str, float]:
    """The shares of domains added up by kind of text."""
    return {kind: sum(mixture[domain] for domain in domains) for kind, domains in _kinds(mixture).items()}


def _kinds(domains: Iterable[str]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for domain in domains:
        kinds.setdefault(domain if domain in OWN_KINDS.values() else CALIBRATION_KIND, []).append(domain)
    return kinds
