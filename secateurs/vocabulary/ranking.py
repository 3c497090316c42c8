"""The order in which tokens go, by how often text has them and by the tokenizer's own order."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from secateurs.errors import SettingError
from secateurs.vocabulary.pieces import Pieces
from secateurs.vocabulary.scripts import check_scripts, script_of

# The share of a text's tokens that the prior stands for. For Qwen's vocabulary, ranked by six domains and
# tried on the seventh, 0.3, 0.1 and 0.02 differ by 0.02% of tokens; a flatter prior than 1 / n is no better.
UNSEEN = 0.3
# Texts tokenised at once.
_BATCH = 256


@dataclass(frozen=True)
class Scripts:
    """Writing systems whose tokens all stay, and those whose tokens all go, by names of scripts.SCRIPTS.

    Of the second those stay that a kept token is merged from. Tokens of all other scripts are ranked.
    """

    keep: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


ALL_RANKED = Scripts()


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Counter[int]:
    """How often each id stands in the texts, special tokens that only a template adds left out."""
    counts, waiting = Counter[int](), list[str]()
    for text in texts:
        waiting.append(text)
        if len(waiting) == _BATCH:
            counts.update(_ids(tokenizer, waiting))
            waiting = []
    counts.update(_ids(tokenizer, waiting))
    return counts


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Iterable[int]:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return (index for one in encoded for index in one.ids)


def token_weights(
    pieces: Pieces, counts: Mapping[str, Mapping[int, int]], mixture: Mapping[str, float]
) -> dict[int, float]:
    """How often a text has each token, by counts and, for what was not counted, the tokenizer's own order.

        frequency(t) = sum over domains of mixture_d * counts_d(t) / all counts_d, mixture summing to 1
        weight(t) = (1 - UNSEEN) * frequency(t) + UNSEEN * frequency(class of t) * zipf(t)

    A class is a script, of which ASCII is apart: digits, code and unaccented words are one class. zipf(t) is
    proportional to 1 / n for the n-th token of its class, in the order in which the tokenizer learned them
    (characters first), and sums to 1 over the class. So a script that the text does not have has no prior.

    counts: by domain, id -> count. mixture: by domain, weights of 0 or more. Raises InputError where no
    domain that counts has a token.
    """
    weighed = {domain: mixture[domain] for domain in counts if mixture[domain] > 0 and counts[domain]}
    if not weighed:
        raise SettingError("mixture: no domain that has text has a weight above 0, so no token can be ranked")
    frequency = dict.fromkeys(pieces.tokens, 0.0)
    for domain, weight in weighed.items():
        total = sum(counts[domain].values())
        for index, count in counts[domain].items():
            if index in frequency:
                frequency[index] += weight / sum(weighed.values()) * count / total
    classes: dict[str, list[int]] = {}
    for index in sorted(pieces.tokens, key=lambda index: (len(pieces.tokens[index]) > 1, index)):
        text = pieces.spelled[index]
        if index not in pieces.dead:
            classes.setdefault("ASCII" if text.isascii() else script_of(text), []).append(index)
    weights = dict.fromkeys(pieces.tokens, 0.0)
    for ordered in classes.values():
        share = sum(frequency[index] for index in ordered)
        harmonic = sum(1 / place for place in range(1, len(ordered) + 1))
        for place, index in enumerate(ordered, start=1):
            weights[index] = (1 - UNSEEN) * frequency[index] + UNSEEN * share / (place * harmonic)
    return weights


def removal_order(pieces: Pieces, weights: Mapping[int, float], scripts: Scripts = ALL_RANKED) -> list[int]:
    """The ids that may go, in the order in which they go; what remains of them is closed at every point.

    Of the tokens that no remaining token is merged from, the one goes that costs least: its weight times the
    tokens that its text takes more, which is one for a merged token and the number of bytes less one for a
    character. Then its parts stand in its place, so they gain its weight. Dead tokens go first, then the
    scripts that are left; what must stay is not in the list: fixed tokens, kept scripts, and their parts.

    Raises InputError for a script that is not known.
    """
    for key in ("keep", "leave"):
        check_scripts(getattr(scripts, key), f"prune.vocabulary.{key}")
    weight = dict(weights)
    script = {index: script_of(text) for index, text in pieces.spelled.items()}
    stay = pieces.fixed | {index for index in pieces.tokens if script[index] in scripts.keep} - pieces.dead
    # How many kept tokens are merged from it.
    needed = Counter(part for index in pieces.merged for part in pieces.made_of[index])

    def entry(index: int) -> tuple[bool, bool, float, int]:
        extra = max(1, len(pieces.made_of.get(index, ())) - 1)
        cost = weight[index] * extra
        # Of equal ones the one that the tokenizer learned last goes first.
        return index not in pieces.dead, script[index] not in scripts.leave, cost, -index

    free = [entry(index) for index in pieces.tokens if index not in stay and not needed[index]]
    heapq.heapify(free)
    order = []
    while free:
        index = -heapq.heappop(free)[-1]
        order.append(index)
        for part in pieces.made_of.get(index, ()):
            weight[part] += weight[index]
            if index in pieces.merged:
                needed[part] -= 1
                if not needed[part] and part not in stay:
                    heapq.heappush(free, entry(part))
    return order


def kept_tokens(pieces: Pieces, order: list[int], rows: int, multiple: int = 64) -> list[int]:
    """The ids that stay, ascending: a multiple of `multiple`, at most `rows` of them.

    Raises InputError where so few cannot be kept, or so many are not there.
    """
    count = rows // multiple * multiple
    most, least = len(pieces.tokens), len(pieces.tokens) - len(order)
    if not least <= count <= most:
        raise SettingError(
            f"prune.vocabulary.rows: {rows}: {least} tokens must stay (special and added ones, those that "
            "configs name or the chat template writes, characters or bytes, scripts that are kept), and "
            f"there are {most}; ask for a multiple of {multiple} between"
        )
    gone = set(order[: most - count])
    return sorted(index for index in pieces.tokens if index not in gone)
