"""The pipeline from capture to held-out perplexity in one process and in memory, for many experiments.

What each stage does is the stages' own code; files and the start of a process for every stage are what is
left out, which on an accelerator are most of the time. Zero-shot accuracy and latency are not measured.
"""

import copy
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.artifacts import Document, Sequence
from stages.capture import measure
from stages.checkpoints import load_model, load_tokenizer
from stages.corpus import corpus_inputs
from stages.devices import place
from stages.errors import InputError
from stages.evaluation.perplexity import score_domains
from stages.mask import choose
from stages.params import SELF_DOMAIN, Params
from stages.pruning.capture import DomainCapture
from stages.pruning.experts import close_experts, open_experts
from stages.pruning.families import Masks, all_kept_masks, decoder_parameters
from stages.study.grid import Experiment
from stages.study.results import Result, Scores
from stages.surgery import healing_text, operate
from stages.text.corpus import build_corpus
from stages.text.sampling import sample_documents

T = TypeVar("T")
Corpus = tuple[list[Sequence], list[Sequence]]


class Laboratory:
    """A dense model and its text, on which experiments are made one after the other.

    Everything that experiments share (drawn text, captures, the dense model's scores) is kept in host memory
    from one to the next.
    """

    def __init__(self, data: Path, params: Params) -> None:
        """data: holds `model`, `sources` and `benchmarks` as the pipeline leaves them for `params`."""
        self.data, self.made_by = data, params
        self.dense = open_experts(load_model(data / "model", params.compute.dtype))
        self.tokenizer = load_tokenizer(data / "model")
        self.device = params.compute.device
        self._kept: dict[str, Any] = {}

    def result(self, experiment: Experiment) -> Result:
        """Make an experiment. Raises InputError where it differs from the others in model, text or dtype."""
        params = experiment.checked
        self._check(experiment.name, params)
        calibration, heldout = self._corpus(params)
        model, seconds = self._pruned(params, calibration)
        total = decoder_parameters(self.dense)
        removed = 1 - decoder_parameters(model) / total
        pruned = self._scores(close_experts(model), heldout, params)
        dense = self._once(
            ("dense", _text_key(params), params.evaluate),
            lambda: self._scores(close_experts(copy.deepcopy(self.dense)), heldout, params),
        )
        return Result(
            experiment.name, experiment.digest, experiment.settings, removed, dense, pruned, seconds
        )

    def _check(self, name: str, params: Params) -> None:
        for group in ("model", "domains", "benchmarks", "compute"):
            if getattr(params, group) != getattr(self.made_by, group):
                raise InputError(f"{name}: sets {group}, which all experiments in one process share")

    def _corpus(self, params: Params) -> Corpus:
        def draw() -> Corpus:
            sources, tokens, benchmarks = corpus_inputs(params, self.data)
            sources[SELF_DOMAIN] = self._own_text(params, sources[SELF_DOMAIN])
            calibration, heldout = build_corpus(sources, tokens, benchmarks, params.corpus)
            return calibration.sequences, heldout.sequences

        return self._once(("corpus", _text_key(params)), draw)

    def _own_text(self, params: Params, there: list[Document]) -> list[Document]:
        """What the dense model writes; `there` is that already, if the pipeline had the same settings."""

        def write() -> list[Document]:
            model = place(close_experts(copy.deepcopy(self.dense)), self.device)
            return sample_documents(model, self.tokenizer, params.sample)

        if params.sample == self.made_by.sample:
            return there
        return self._once(("sample", params.sample), write)

    def _pruned(self, params: Params, calibration: list[Sequence]) -> tuple[PreTrainedModel, float]:
        """What surgery would write, in host memory, and what it took with captures of its own."""
        start, shared = time.perf_counter(), 0.0
        masks: dict[str, Tensor] = all_kept_masks(self.dense)
        scores = {name: torch.zeros(len(mask), dtype=torch.float64) for name, mask in masks.items()}
        for name in params.chain():
            before = time.perf_counter()
            captures, took = self._capture(params, calibration, masks, name)
            shared += took - (time.perf_counter() - before)
            choice = choose(self.dense, captures, masks, scores, params, name)
            masks, scores = choice.masks, choice.scores
        model = copy.deepcopy(self.dense)
        operate(model, masks, healing_text(calibration, params), params, lambda: None)
        return model, time.perf_counter() - start + shared

    def _capture(
        self, params: Params, calibration: list[Sequence], masks: Masks, name: str
    ) -> tuple[dict[str, DomainCapture], float]:
        """A round's statistics, and the seconds that they took when they were taken."""

        def take() -> tuple[dict[str, DomainCapture], float]:
            start = time.perf_counter()
            model = copy.deepcopy(self.dense)
            captures = measure(model, masks, calibration, params, name, lambda count: None)
            return captures, time.perf_counter() - start

        cuts = hashlib.blake2b(torch.cat(list(masks.values())).numpy().tobytes()).hexdigest()
        turn = params.chain().index(name)
        return self._once(
            ("capture", _text_key(params), params.capture, params.prune.sites, turn, cuts), take
        )

    def _scores(self, model: PreTrainedModel, heldout: list[Sequence], params: Params) -> Scores:
        place(model, self.device)
        scores = score_domains(model, self.tokenizer, heldout, params.evaluate.batch_size)
        perplexity = {domain: one.perplexity for domain, one in scores.items()}
        return Scores(sum(weight.numel() for weight in model.parameters()), perplexity, None)

    def _once(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        name = repr(key)
        if name not in self._kept:
            self._kept[name] = make()
        made: T = self._kept[name]
        return made


def _text_key(params: Params) -> tuple[object, ...]:
    return (params.corpus, params.sample)
