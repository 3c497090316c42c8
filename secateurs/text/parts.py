"""Dialogues as several domains, by what is asked in them."""

from collections.abc import Mapping

from secateurs.settings.sources import DIALOGUE_DOMAIN, is_dialogues
from secateurs.text.breadth import topics
from secateurs.text.documents import Document
from secateurs.text.turns import from_json


def in_parts(
    sources: Mapping[str, list[Document]], count: int
) -> tuple[dict[str, list[Document]], dict[str, tuple[str, ...]]]:
    """The documents by domain with the dialogues as domains `dialogues 1` and so on; the words of each part.

    At most `count` parts by the words of the questions (breadth.topics), the largest first. With one, or
    without dialogues, everything stays as it is, and no words are given.
    """
    dialogues = sources.get(DIALOGUE_DOMAIN, [])
    if count == 1 or not dialogues:
        return dict(sources), {}
    parts, words = {}, {}
    for number, topic in enumerate(topics([from_json(item.text).question for item in dialogues], count), 1):
        name = f"{DIALOGUE_DOMAIN} {number}"
        parts[name], words[name] = [dialogues[place] for place in topic.places], topic.words
    return {name: found for name, found in sources.items() if name != DIALOGUE_DOMAIN} | parts, words


def spread(mixture: Mapping[str, float], read: Mapping[str, int]) -> dict[str, float]:
    """Weights by domain, that of dialogues divided among their parts in proportion to what is read of each.

    read: sequences, or how many times as many as of other domains, by domain. Where the weights name the
    parts themselves, they stay as they are.
    """
    parts = {name: count for name, count in read.items() if is_dialogues(name)}
    if DIALOGUE_DOMAIN not in mixture or set(parts) <= {DIALOGUE_DOMAIN}:
        return dict(mixture)
    whole, weight = sum(parts.values()), mixture[DIALOGUE_DOMAIN]
    others = {name: value for name, value in mixture.items() if name != DIALOGUE_DOMAIN}
    return others | {name: weight * count / whole for name, count in parts.items()}
