"""How broad a set of short texts is: which of them say nothing new, and what they are about."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateurs.text.overlap import NGram, ngrams

# Words that follow one another by which repetition is found; a shorter text is compared whole.
WORDS = 6
# Texts are told apart by at most so many words, each in two texts at least and in half of them at most.
MOST_WORDS = 2000
# Passes of k-means at most; words that are named of a topic.
PASSES, NAMED = 30, 6


@dataclass(frozen=True)
class Topic:
    """Texts that have words in common: their places in the list, and the words that mark them most."""

    places: tuple[int, ...]
    words: tuple[str, ...]


def distinct(texts: Sequence[str], most: float) -> list[int]:
    """The places of texts that say something new: at most `most` of their n-grams are in those kept before.

    1.0 keeps all, copies too.
    """
    if most >= 1.0:
        return list(range(len(texts)))
    seen: set[NGram] = set()
    kept = []
    for place, text in enumerate(texts):
        found = ngrams(text, WORDS) or {tuple(text.casefold().split())}
        if len(found & seen) <= most * len(found):
            kept.append(place)
            seen |= found
    return kept


def topics(texts: Sequence[str], count: int, seed: int = 0) -> list[Topic]:
    """The texts in at most `count` groups by their words, the largest first; every text is in one.

    Spherical k-means of tf-idf vectors, tf being 1 or 0, begun with the seed as k-means++ begins (Arthur &
    Vassilvitskii 2007). A text without any common word goes to the first group.
    """
    words = [{gram[0] for gram in ngrams(text, 1)} for text in texts]
    frequency = Counter(word for found in words for word in found)
    common = sorted(word for word, texts_with in frequency.items() if 2 <= texts_with <= len(texts) / 2)
    common = sorted(common, key=lambda word: (-frequency[word], word))[:MOST_WORDS]
    column = {word: place for place, word in enumerate(common)}
    vectors = torch.zeros(len(texts), max(1, len(common)))
    for row, found in enumerate(words):
        for word in found & column.keys():
            vectors[row, column[word]] = math.log(len(texts) / frequency[word])
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    labels, centres = _k_means(vectors, min(count, len(texts)), torch.Generator().manual_seed(seed))
    found_topics = []
    for label, centre in enumerate(centres):
        places = tuple((labels == label).nonzero()[:, 0].tolist())
        marks = centre.topk(min(NAMED, len(common))).indices.tolist() if common else []
        if places:
            found_topics.append(Topic(places, tuple(common[mark] for mark in marks)))
    return sorted(found_topics, key=lambda topic: (-len(topic.places), topic.places))


def _k_means(vectors: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The group of each unit vector [n], and the groups' mean directions [count, d]."""
    first = torch.randint(len(vectors), (1,), generator=generator)
    centres = vectors[first]
    nearest = vectors @ centres[0]
    for _ in range(count - 1):
        # Squared distance of unit vectors, 2 - 2 cos; where all lie on centres, any will do.
        distance = (1 - nearest).clamp_min(0) + 1e-9
        chosen = vectors[torch.multinomial(distance, 1, generator=generator)]
        centres = torch.cat([centres, chosen])
        nearest = torch.maximum(nearest, vectors @ chosen[0])
    labels = torch.full((len(vectors),), -1)
    for _ in range(PASSES):
        before, labels = labels, (vectors @ centres.T).argmax(dim=1)
        if torch.equal(before, labels):
            break
        sums = torch.zeros_like(centres).index_add_(0, labels, vectors)
        empty = torch.bincount(labels, minlength=count) == 0
        centres = torch.where(empty[:, None], centres, torch.nn.functional.normalize(sums, dim=1))
    return labels, centres
