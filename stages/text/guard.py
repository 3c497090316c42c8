"""Which documents of a domain share text with what the pruning must not see."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from functools import cached_property

from stages.common.artifacts import Document
from stages.text.overlap import Run, word_runs

# Documents below which "most of them" says nothing, and how many are looked at.
_FEWEST, _SEEN = 10, 200
# The share of a document's runs that may belong to its domain; beyond it nothing of its own is left.
_MOST_COMMON = 2 / 3


class Guard:
    """The runs of words that documents of a domain must not share, by the field of Counts that counts them.

    A run that more than half of the domain's documents hold (a legal line, a header) says nothing about a
    single one of them, and is not held against it; unless over two thirds of a document are such runs.
    """

    def __init__(self, documents: Sequence[Document], avoid: Mapping[str, Set[Run]], length: int) -> None:
        """documents: all of the domain, of both splits. length: words of a run."""
        self._documents, self._avoid, self._length = documents, avoid, length

    def overlap(self, runs: Set[Run]) -> str | None:
        """The name under which a document with these runs is dropped, or None where it may stay."""
        for name, known in self._avoid.items():
            if runs.isdisjoint(known):
                continue
            common = runs & self._common
            if (runs & known) - common or len(common) > _MOST_COMMON * len(runs):
                return name
        return None

    @cached_property
    def _common(self) -> set[Run]:
        """Of the runs to avoid, those in more than half of the domain's documents."""
        # Counted only where something overlaps, which in most domains nothing does.
        if len(self._documents) < _FEWEST:
            return set()
        seen = self._documents[:: -(-len(self._documents) // _SEEN)]
        counts: Counter[Run] = Counter()
        for item in seen:
            runs = word_runs(item.text, self._length)
            counts.update(run for run in runs if any(run in known for known in self._avoid.values()))
        return {run for run, count in counts.items() if 2 * count > len(seen)}
