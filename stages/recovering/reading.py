"""The text of a recovery as its files have it, in the tokens of the pruned model."""

from transformers import PreTrainedTokenizerBase

from secateurs.recover.leaving_out import leave_out
from secateurs.recover.training import Questions, Texts
from secateurs.settings.recovery import OWN_KINDS
from secateurs.text.calibration import by_domain
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import in_tokens_of
from stages.common.artifacts import read_sequences
from stages.common.paths import RECOVERY_TEXT
from stages.params.file import Params
from stages.recovering.text import (
    left_out_questions,
    own_questions,
    recovery_mixture,
    rows_left_out,
)


def read_texts(
    params: Params, dense: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> tuple[Texts, Questions | None]:
    """What is read in training and in its checks, and the questions on abilities, still without answers."""
    sequences = read_sequences(RECOVERY_TEXT)
    ids = by_domain(sequences).ids
    if not same_cut(dense, tokenizer):
        ids = in_tokens_of(ids, dense, tokenizer)
    asked, held_back, count = None, 0, params.recover.abilities.questions
    if count:
        asked, held_back = left_out_questions(tokenizer, sequences, count)
    rows, left_out = leave_out(ids, rows_left_out(params), held_back)
    questions = None
    if params.recover.on_policy.share:
        questions = own_questions(tokenizer, sequences, len(rows[OWN_KINDS["dialogues"]]))
    return Texts(rows, left_out, recovery_mixture(params), questions), asked
