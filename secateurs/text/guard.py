"""Which documents of a domain have text in common with what the pruning must not see."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from functools import cached_property

from secateurs.text.documents import Document
from secateurs.text.overlap import NGram, ngrams

# With fewer documents "most of them" says nothing; of more than _SEEN only about as many are looked at.
_FEWEST, _SEEN = 10, 200
# The fraction of a document's n-grams that may be common in its domain; with more, it has too few of its own.
_MOST_COMMON = 2 / 3


class Guard:
    """The n-grams that no document of a domain may have, by the field of Counts that counts them.

    An n-gram that more than half of the domain's documents have (a legal line, a header) says nothing about a
    single one of them and does not count, unless over two thirds of a document are such n-grams.
    """

    def __init__(self, documents: Sequence[Document], avoid: Mapping[str, Set[NGram]], length: int) -> None:
        """documents: all of the domain, of both splits. length: words of an n-gram."""
        self._documents, self._avoid, self._length = documents, avoid, length

    def overlap(self, found: Set[NGram]) -> str | None:
        """The name under which a document with these n-grams is dropped, or None where it may stay."""
        for name, known in self._avoid.items():
            if found.isdisjoint(known):
                continue
            common = found & self._common
            if (found & known) - common or len(common) > _MOST_COMMON * len(found):
                return name
        return None

    @cached_property
    def _common(self) -> set[NGram]:
        """Of the n-grams to avoid, those in more than half of the domain's documents."""
        # Counted only where something overlaps, which in most domains nothing does.
        if len(self._documents) < _FEWEST:
            return set()
        seen = self._documents[:: -(-len(self._documents) // _SEEN)]
        counts: Counter[NGram] = Counter()
        for item in seen:
            found = ngrams(item.text, self._length)
            counts.update(one for one in found if any(one in known for known in self._avoid.values()))
        return {one for one, count in counts.items() if 2 * count > len(seen)}
