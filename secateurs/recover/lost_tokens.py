"""A short training of the rows into whose tokens lost ones fall, after a vocabulary was cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.saving import in_precision
from secateurs.devices.optimizer import adamw, scheduled
from secateurs.devices.placement import copied
from secateurs.devices.precision import tensor_cores
from secateurs.heal.healed import TokensHealed
from secateurs.inference.head import folded
from secateurs.progress import progress
from secateurs.recover.scales import norm_weights
from secateurs.settings.method import Settings
from secateurs.settings.pruning import Tokens
from secateurs.text.portions import choice_text, healing_text
from secateurs.text.rows import Text
from secateurs.vocabulary.embedding_rows import vocabulary_rows

WARMUP = 0.1


@dataclass(frozen=True)
class TwoCuts:
    """A text in the tokens of both vocabularies.

    dense, small: its ids, int64 [m] and [n]. shared: int64 [m, 2], the places in both after which the same
    text is read. inside: int64 [n - m], the places in `small` where a lost token goes on.
    """

    dense: Tensor
    small: Tensor
    shared: Tensor
    inside: Tensor


class Spelling:
    """The tokens of a dense vocabulary in those of the cut one: what each id becomes, a tuple of ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, trimmed: PreTrainedTokenizerBase) -> None:
        kept, spell = trimmed.get_vocab(), trimmed.backend_tokenizer.model.tokenize
        self.ids: dict[int, tuple[int, ...]] = {
            index: (kept[token],) if token in kept else tuple(piece.id for piece in spell(token))
            for token, index in tokenizer.get_vocab().items()
        }
        self.lost = {index for token, index in tokenizer.get_vocab().items() if token not in kept}

    @property
    def rows(self) -> list[int]:
        """The ids of the cut vocabulary into which lost tokens fall, ascending."""
        return sorted({piece for index in self.lost for piece in self.ids[index]})

    def cut(self, ids: Sequence[int]) -> TwoCuts:
        """A text of the dense vocabulary in both. Lost tokens are spelled one by one, as nearly all are when
        the trimmed tokenizer cuts the text."""
        small, shared, inside = list[int](), list[tuple[int, int]](), list[int]()
        for place, index in enumerate(ids):
            pieces = self.ids[index]
            inside += range(len(small), len(small) + len(pieces) - 1)
            small += pieces
            shared.append((place, len(small) - 1))
        parts = (list(ids), small, shared, inside)
        return TwoCuts(*(torch.tensor(one, dtype=torch.int64) for one in parts))

    def first(self, rows: int) -> Tensor:
        """The first piece of every dense id, int64 [rows]; -1 for rows that are no token's."""
        found = torch.full((rows,), -1)
        for index, pieces in self.ids.items():
            if index < rows and pieces:
                found[index] = pieces[0]
        return found


def heal_tokens(
    model: PreTrainedModel,
    dense: PreTrainedModel,
    spelling: Spelling,
    text: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    settings: Tokens,
    device: str,
) -> TokensHealed:
    """Train, in place, the rows into which lost tokens fall, and the norms, of a model with a cut vocabulary.

        loss = (sum over shared places of KL(p' || q) - sum inside lost tokens of log q(next piece)) / tokens
        p'(s) = sum over dense tokens t with first piece s of p(t)

    p: the dense model's next-token distribution after the text in its own tokens; q: the model's after the
    same text in the tokens that are left. So the model learns to begin a lost token with its first piece, to
    go on with the others, and what to read them as. All other rows and weights stay as they are.

    model, dense: in host memory, in evaluation mode; the second, whose vocabulary is whole, stays as it is.
    device: where copies of both are trained and run, one as compute.device names it. text: int64 [sequences,
    tokens] by domain in dense ids, trained on and left out; sequences without a lost token are not read.
    Training is in float32 by AdamW, whose rate rises over the first tenth of the steps and falls along a
    cosine. The model gets what it made where the loss on left-out text fell.
    """
    train, left = (
        [one for ids in part.values() for one in map(spelling.cut, ids.tolist()) if len(one.inside)]
        for part in text
    )
    if not (train and left):
        return TokensHealed(0, 0, 0.0, 0.0)
    # Copies, which are dropped with what is set on them.
    student, teacher = in_precision(copied(model, device), torch.float32), copied(dense, device)
    rows, fold = spelling.rows, spelling.first(vocabulary_rows(dense)).to(student.device)
    names = _trained(student)
    weights = [student.get_parameter(name) for name in names]
    before = _mean(student, teacher, left, fold)
    _ask_for_gradients(weights, rows)
    optimizer = adamw(weights, settings.learning_rate)
    schedule = scheduled(optimizer, settings.steps, WARMUP)
    order = torch.Generator().manual_seed(0)
    for _ in progress(range(settings.steps), label="tokens", unit="steps"):
        chosen = torch.randint(len(train), (settings.batch_size,), generator=order).tolist()
        batch = [train[number] for number in chosen]
        tokens = sum(len(one.small) for one in batch)
        for one in batch:
            (_loss(student, teacher, one, fold) / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    after = _mean(student, teacher, left, fold)
    if after < before:
        for name, weight in zip(names, weights, strict=True):
            model.get_parameter(name).data.copy_(weight)
    return TokensHealed(settings.steps, len(rows), before, min(before, after))


def heal_tokens_by(
    model: PreTrainedModel,
    dense: PreTrainedModel,
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
    text: Text,
    settings: Settings,
) -> TokensHealed | None:
    """heal_tokens by the text of a pruning: what it heals by, and what it chooses by. tokenizers: the dense
    model's and the trimmed one. None where `surgery.tokens.steps` is 0."""
    if not settings.surgery.tokens.steps:
        return None
    parts = healing_text(text, settings), choice_text(text, settings)
    return heal_tokens(model, dense, Spelling(*tokenizers), parts, settings.surgery.tokens, settings.device)


def _trained(model: PreTrainedModel) -> list[str]:
    """The names of embeddings and head, which may be one matrix, and of the norms' weights."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    wanted = {id(module.get_parameter("weight")) for module in ends}
    wanted |= {id(weight) for weight in norm_weights(model).values()}
    return [name for name, weight in model.named_parameters() if id(weight) in wanted]


def _ask_for_gradients(weights: Sequence[nn.Parameter], rows: Sequence[int]) -> None:
    """From now on weights have gradients: matrices those of some rows, and zeros elsewhere."""

    def of_rows(gradient: Tensor) -> Tensor:
        only = gradient.new_zeros(len(gradient), 1)
        only[rows] = 1.0
        return gradient * only

    for weight in weights:
        weight.requires_grad_(True)
        if weight.dim() == 2:
            weight.register_hook(of_rows)


def _loss(student: PreTrainedModel, teacher: PreTrainedModel, text: TwoCuts, fold: Tensor) -> Tensor:
    """The loss of one text, summed over its places."""
    where = fold.device
    small, (theirs, ours) = text.small.to(where), text.shared.to(where).T
    with torch.no_grad():
        p = teacher(input_ids=text.dense[None].to(where), use_cache=False).logits[0, theirs].float()
        p = p.softmax(dim=-1)
    with tensor_cores():
        scores = student(input_ids=small[None], use_cache=False).logits[0].float()
    log_q = scores[ours].log_softmax(dim=-1)
    target = folded(p, fold, log_q.shape[-1])
    # Rows that are no token's have hardly any of p.
    target = target / target.sum(dim=-1, keepdim=True)
    inside = text.inside.to(where)
    return F.kl_div(log_q, target, reduction="sum") + F.cross_entropy(
        scores[inside], small[inside + 1], reduction="sum"
    )


@torch.no_grad()
def _mean(
    student: PreTrainedModel, teacher: PreTrainedModel, texts: Sequence[TwoCuts], fold: Tensor
) -> float:
    """The loss of texts, in nats per token."""
    total = sum(float(_loss(student, teacher, one, fold)) for one in texts)
    return total / sum(len(one.small) for one in texts)
