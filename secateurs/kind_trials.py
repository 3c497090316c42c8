"""`prune.sites: auto`: a trial of each kind at a few sizes, and the kinds by which a target costs least.

A trial is a whole pruning in memory, of one kind in a single round, so this is above `prune`.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.choose.chosen import settled
from secateurs.choose.options import options, target_of
from secateurs.choose.shares import Trial, cheapest, curve
from secateurs.choose.target import written
from secateurs.choose.weight_bytes import weight_bytes
from secateurs.devices.placement import copied, passing_through, place, resolve_device
from secateurs.errors import SettingError
from secateurs.evaluation.cost import macs_per_token
from secateurs.evaluation.perplexity import score_domains
from secateurs.families.fused_experts import open_experts
from secateurs.kinds.registry import NAMES, kinds
from secateurs.kinds.sites import sites_of
from secateurs.measure.capture import DomainCapture, capture
from secateurs.pruner import prune_model
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO, ROWS_MULTIPLE, VOCABULARY, Prune
from secateurs.text.documents import Sequence as Row
from secateurs.text.parts import spread
from secateurs.text.portions import left_out_text, round_text, without_left_out
from secateurs.text.rows import Text
from secateurs.vocabulary.choose import Ranked, rank_by, trim_vocabulary
from secateurs.vocabulary.embedding_rows import row_parameters, vocabulary_rows

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Chosen:
    """What `sites: auto` comes to.

    sites, shares, rows: as under `prune` (rows 0: all). lost: what they are expected to cost, in nats per
    byte, the costs of kinds added up. trials: what was measured. unused: why other kinds were not tried.
    """

    sites: list[str]
    shares: dict[str, float]
    rows: int
    lost: float
    trials: list[Trial]
    unused: dict[str, str]

    def settled(self, prune: Prune) -> Prune:
        """The settings with these kinds in the place of `auto`."""
        return settled(prune, asdict(self))

    def said(self) -> str:
        """In words: prune.sites: [mlp, attention], prune.shares: ..., prune.vocabulary.rows: ..."""
        shares = ", ".join(f"{name}: {share:.3f}" for name, share in self.shares.items())
        parts = [
            f"prune.sites: [{', '.join(self.sites)}]",
            *([f"prune.shares: {{{shares}}}"] if shares else []),
            *([f"prune.vocabulary.rows: {self.rows}"] if self.rows else []),
        ]
        return f"{', '.join(parts)}; {self.lost:.4f} nats per byte expected"


def choose_kinds(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Text,
    settings: Settings,
    *,
    counts: Mapping[str, Mapping[int, int]] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Chosen:
    """Which of `prune.auto.kinds` a target takes from, and how much of each, by what trials of each lose.

    Each kind that the model has is tried alone at a few sizes (choose.options), in one round, and healed.
    What it lost is

        lost_d = (nats of the trial - nats of the dense model) / bytes      on left-out rows of domain d

    where the rows' text is cut anew once tokens are gone. It is the loss, not the divergence between
    distributions over tokens, because tokens of two vocabularies cannot be compared, and what one kind costs
    must mean the same as what another does. Costs of kinds are taken as additive (choose.shares).

    model: the dense one; it stays as it is. text: all calibration text, of whose domains the last rows are
    left out. settings: with `prune.sites: auto`. counts: of each token id by domain, in text that is not
    among the left-out rows; of the other rows if None. `say` is told of every trial.

    Raises InputError as prune_model does, and where the kinds cannot meet the target.
    """
    if settings.prune.sites != AUTO:
        raise SettingError(f"prune.sites: {settings.prune.sites}: nothing to choose; set it to auto")
    prune = settings.prune
    mixture = spread(settings.mixture, {domain: text.times(domain) for domain in text.ids})
    mixture = mixture or dict.fromkeys(text.ids, 1.0)
    bench = _Bench(model, tokenizer, text, settings.changed(mixture=mixture), say)
    # The dialogues are one domain of counts, and may be several of rows.
    ranked = bench.ranked(counts, {**settings.mixture, **mixture}) if VOCABULARY in prune.auto.kinds else None
    tried = options(bench.opened, prune, settings.mask.metric, 0 if ranked is None else ranked.least)
    trials = []
    if ranked is not None:
        # Of more rows than the tokenizer has tokens, those without one go first, and all at once.
        fewer = dict.fromkeys(min(rows, ranked.most) for rows in tried.rows)
        trials += [bench.without_rows(ranked.kept(rows)) for rows in fewer]
    trials += [bench.without(name, one) for name, budgets in tried.decoder.items() for one in budgets]
    curves = []
    for name, unit in tried.units.items():
        own = [one for one in trials if one.kind == name]
        # At the rate of its trials.
        size = unit * sum(one.size for one in own) / sum(one.parameters for one in own)
        curves.append(curve(own, size, mixture, prune.auto.over))
    sizes = cheapest(curves, tried.target)
    if sizes is None:
        raise SettingError(
            f"prune.{written(prune)}: more than {', '.join(tried.units) or 'no kind'} can give together with "
            f"prune.floor: {prune.floor}; ask for less, or add to prune.auto.kinds"
        )
    at = {one.kind: one.at(sizes[one.kind]) for one in curves if one.kind in sizes}
    gone = {name: parameters for name, (parameters, _) in at.items() if name != VOCABULARY}
    rows = prune.vocabulary.rows
    if ranked is not None and VOCABULARY in at:
        steps = (
            vocabulary_rows(bench.dense) - at[VOCABULARY][0] / row_parameters(bench.dense)
        ) / ROWS_MULTIPLE
        # A step that rounding takes from a whole number is none.
        rows = min(math.floor(steps + _ROUNDING) * ROWS_MULTIPLE, ranked.most)
        if target_of(bench.dense, prune.changed(vocabulary=prune.vocabulary.changed(rows=rows))) <= 0:
            gone = {}
    whole = math.fsum(gone.values())
    shares = {name: round(part / whole, 6) for name, part in gone.items()} if len(gone) > 1 else {}
    lost = math.fsum(cost for _, cost in at.values())
    return Chosen(list(gone), shares, rows, lost, trials, tried.unused)


class _Bench:
    """What all trials of a dense model have in common; scores are taken once, for all kinds together."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        text: Text,
        settings: Settings,
        say: Callable[[str], object],
    ) -> None:
        auto, surgery = settings.prune.auto, settings.surgery
        moved: Any = copy.deepcopy(model)  # transformers' types leave out the argument of `to`
        self.dense: PreTrainedModel = moved.to("cpu").eval().requires_grad_(False)
        self.opened = open_experts(copy.deepcopy(self.dense))
        self.tokenizer, self.say = tokenizer, say
        self.text, left_out = without_left_out(text, auto.left_out), left_out_text(text, auto.left_out)
        self.left_out = [
            Row(name, (), tuple(row)) for name, ids in left_out.ids.items() for row in ids.tolist()
        ]
        self.settings = settings.changed(
            rounds={"trial": 1.0},
            mask=settings.mask.changed(left_out=0, reweight=0.0),
            surgery=surgery.changed(
                sequences=min(auto.sequences, surgery.sequences),
                reconstruct=surgery.reconstruct.changed(epochs=0),
                tokens=surgery.tokens.changed(steps=0),
            ),
        )
        self.device = resolve_device(settings.device)
        self.before = self._bits(self.dense, tokenizer)

    @cached_property
    def captures(self) -> dict[str, DomainCapture]:
        """What a round's capture would take of the dense model, of all kinds that may be tried."""
        model = place(copied(self.opened, self.settings.device), self.settings.device)
        names = [name for name in NAMES if name in self.settings.prune.auto.kinds]
        sites = sites_of(model, [name for name in names if kinds()[name].refusal(model.config) is None])
        return capture(model, sites, round_text(self.text, self.settings, "trial"), self.settings.capture)

    def without(self, name: str, budget: Prune) -> Trial:
        """The trial of a kind in the decoder."""
        settings = self.settings.changed(prune=budget)
        pruned = prune_model(self.dense, self.text, settings, take_round=lambda *_: self.captures)
        return self._tried(name, pruned.model, self.tokenizer)

    def ranked(self, counts: Mapping[str, Mapping[int, int]] | None, mixture: Mapping[str, float]) -> Ranked:
        """The tokens in the order in which they go; counts: as choose_kinds takes them."""
        counts = self.text.counts() if counts is None else counts
        return rank_by(self.dense, self.tokenizer, counts, mixture, self.settings.prune.vocabulary)

    def without_rows(self, kept: Sequence[int]) -> Trial:
        """The trial of the vocabulary."""
        small = copy.deepcopy(self.dense)
        return self._tried(VOCABULARY, small, trim_vocabulary(small, self.tokenizer, kept))

    def _tried(self, name: str, small: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Trial:
        after, prune = self._bits(small, tokenizer), self.settings.prune
        gone = size = self.dense.num_parameters() - small.num_parameters()
        if prune.memory is not None:
            precision = prune.memory.precision
            size = weight_bytes(self.dense, precision) - weight_bytes(small, precision)
        elif prune.multiply_adds is not None:
            size = macs_per_token(self.dense) - macs_per_token(small)
        lost = {domain: (after[domain] - bits) * math.log(2) for domain, bits in self.before.items()}
        trial = Trial(name, gone, size, lost)
        cost = trial.cost(self.settings.mixture, prune.auto.over)
        self.say(f"{name}: {gone:,} parameters fewer lose {cost:.4f} nats per byte ({prune.auto.over})")
        return trial

    def _bits(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, float]:
        with passing_through(model, self.device):
            scores = score_domains(model, tokenizer, self.left_out, len(self.left_out), self.tokenizer)
        return {domain: score.bits_per_byte for domain, score in scores.items()}
