"""What each token of a BPE vocabulary is merged from."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

Merge = tuple[str, str]


def derivations(
    merges: Sequence[Merge], tokens: Iterable[str], cut: Mapping[str, bool]
) -> dict[str, Merge | None]:
    """The last merge that BPE makes when it cuts each token's own string; None where that is not the token.

    A vocabulary may have several merges with the same result. Which of them is made does not depend on what
    stands around a token: a merge across its ends would have made another token, and those within it are made
    in the order of their ranks, as when the string stands alone. So a token can be made exactly where its own
    derivation can.

    merges: in the order of their ranks. tokens: of more than one character. cut: by token, whether the
    tokenizer cuts its string into that token alone.
    """
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    made_by: dict[str, list[Merge]] = {}
    for left, right in merges:
        # A part that is never made takes part in no merge.
        if cut.get(left, True) and cut.get(right, True):
            made_by.setdefault(left + right, []).append((left, right))
    found: dict[str, Merge | None] = {}
    for token in tokens:
        rules = made_by.get(token, [])
        if not cut[token] or not rules:
            found[token] = None
        else:
            found[token] = rules[0] if len(rules) == 1 else _last_merge(token, ranks)
    return found


def _last_merge(token: str, ranks: Mapping[Merge, int]) -> Merge | None:
    """BPE on the characters of a token: the lowest rank first, of equal ones the leftmost."""
    symbols, last = list(token), None
    while len(symbols) > 1:
        # A pair without a rank sorts behind all others.
        pairs = list(pairwise(symbols))
        best = min(range(len(pairs)), key=lambda place: ranks.get(pairs[place], len(ranks)))
        if pairs[best] not in ranks:
            return None
        last = pairs[best]
        symbols[best : best + 2] = ["".join(last)]
    return last
