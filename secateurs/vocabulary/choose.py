"""The whole of it: which tokens of a model stay, and the model and tokenizer without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secateurs.settings.pruning import ROWS_MULTIPLE, Vocabulary
from secateurs.vocabulary.embedding_rows import cut_vocabulary, named_ids, vocabulary_rows
from secateurs.vocabulary.pieces import Pieces, read_pieces
from secateurs.vocabulary.ranking import ALL_RANKED, Scripts, kept_tokens, removal_order, token_weights
from secateurs.vocabulary.template import template_ids
from secateurs.vocabulary.trimming import new_ids, trim_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Ranked:
    """The tokens of a model, and the order in which they go (ranking.removal_order)."""

    pieces: Pieces
    order: list[int]

    @property
    def least(self) -> int:
        """How many tokens must stay."""
        return len(self.pieces.tokens) - len(self.order)

    @property
    def most(self) -> int:
        """How many rows can be left: all tokens, rounded down to a multiple of 64."""
        return len(self.pieces.tokens) // ROWS_MULTIPLE * ROWS_MULTIPLE

    def kept(self, rows: int) -> list[int]:
        """The ids that stay, ascending: as many as `rows`, rounded down to a multiple of 64.

        Raises InputError for a number of rows that cannot be kept.
        """
        return kept_tokens(self.pieces, self.order, rows)


def rank_tokens(
    tokenizer: PreTrainedTokenizerBase,
    configs: Sequence[Any],
    counts: Mapping[str, Mapping[int, int]],
    mixture: Mapping[str, float],
    scripts: Scripts = ALL_RANKED,
) -> Ranked:
    """Rank the tokens of a dense model; those that the chat template writes are among those that stay.

    configs: the model's config, and its generation config where it has one. counts: of each id by domain,
    from ranking.count_tokens. mixture: how much each domain counts. Raises InputError for tokenizers whose
    vocabulary cannot be cut, and unknown scripts.
    """
    there = configs[0].get_text_config().vocab_size
    pieces = read_pieces(tokenizer, there, named_ids(*configs) | template_ids(tokenizer))
    return Ranked(pieces, removal_order(pieces, token_weights(pieces, counts, mixture), scripts))


def rank_by(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    counts: Mapping[str, Mapping[int, int]],
    mixture: Mapping[str, float],
    settings: Vocabulary,
) -> Ranked:
    """rank_tokens of a dense model in memory, whose configs and settings say what stays."""
    configs = [one for one in (model.config, model.generation_config) if one is not None]
    scripts = Scripts(tuple(settings.keep), tuple(settings.leave))
    return rank_tokens(tokenizer, configs, counts, mixture, scripts)


def trim_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, kept: Sequence[int]
) -> PreTrainedTokenizerBase:
    """Take all rows but those of the `kept` ids from a model, in place, and return its trimmed tokenizer.

    Raises InputError for a model or tokenizer from which they cannot be taken; the model is then whole.
    """
    ids = new_ids(tokenizer, kept, vocabulary_rows(model))
    trimmed = trim_tokenizer(tokenizer, ids)
    cut_vocabulary(model, ids)
    return trimmed
