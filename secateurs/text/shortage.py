"""Why a domain has too little text for a split, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass

from secateurs.settings.groups import Corpus
from secateurs.settings.sources import SELF_DOMAIN, is_dialogues, is_generated
from secateurs.text.documents import Document

# Characters of text that are a token, roughly.
_CHARACTERS = 4
# With fewer documents than this, chance may leave a split without any.
_FEW_DOCUMENTS = 20


@dataclass(frozen=True)
class Shortage:
    """What a domain gave to a split that it could not fill.

    setting: the key of `corpus` that asks for the sequences. times: how many for each of those. documents:
    all of the domain. used: those in this split. benchmarks, heldout: how many of them were dropped, because
    they have text in common with benchmark items or held-out text. tokens: of the others, taken whole.
    """

    domain: str
    setting: str
    times: int
    documents: Sequence[Document]
    used: Sequence[Document]
    benchmarks: int
    heldout: int
    tokens: int

    def message(self, settings: Corpus) -> str:
        """One line: what is missing, why, and what would be right."""
        asked, length = getattr(settings, self.setting), settings.sequence_length
        number = self.times * asked
        cause, remedy = self._cause(settings)
        return (
            f"corpus.{self.setting}: {asked}: domain {self.domain} has {self.tokens} tokens "
            f"for them, and {number} sequences of {length} need {number * length}: {cause}; {remedy}, or "
            f"lower corpus.{self.setting}"
        )

    def _cause(self, settings: Corpus) -> tuple[str, str]:
        split = "held-out" if self.setting == "heldout_sequences" else "calibration"
        count, dropped = len(self.used), self.benchmarks + self.heldout
        cause = f"{count} of its {len(self.documents)} documents are {split} text"
        if dropped and 2 * dropped >= count:
            shared = [f"{self.heldout} with held-out text"] if self.heldout else []
            shared += [f"{self.benchmarks} with benchmark items"] if self.benchmarks else []
            return (
                f"{cause}, and {dropped} of these are dropped, because they share {settings.ngram} words in "
                f"a row: {' and '.join(shared)}",
                "take repeated text out, or raise corpus.ngram",
            )
        characters = sum(len(item.text) for item in self.documents)
        wanted = _CHARACTERS * settings.sequence_length * self.times * getattr(settings, self.setting)
        if not is_generated(self.domain) and characters > wanted and len(self.documents) < _FEW_DOCUMENTS:
            return (
                f"{cause}, and a document of the domain has {characters // len(self.documents)} characters "
                "on average, but is never in both splits",
                "split long documents into more, a file for each chapter or a line for each paragraph "
                "(`reader: {format: lines}`)",
            )
        if not is_generated(self.domain) and not dropped and characters > wanted:
            share = f"corpus.heldout_share: {settings.heldout_share}"
            more = "raise" if split == "held-out" else "lower"
            return (
                f"{cause}, by {share}, and all of them together have {characters} characters",
                f"{more} corpus.heldout_share",
            )
        mean = sum(len(item.text) for item in self.used) // max(1, count)
        kept = f", {dropped} of them dropped because they repeat other text" if dropped else ""
        return f"{cause}{kept}, with {mean} characters each on average", self._more()

    def _more(self) -> str:
        if self.domain == SELF_DOMAIN:
            return "raise sample.documents"
        if is_dialogues(self.domain):
            return "raise sample.dialogues.count"
        return f"raise domains.{self.domain}.documents or add text to its files"
