"""The pipeline from capture to held-out perplexity in one process and in memory, for many experiments.

Every step is the stages' own code. What is saved is the files between stages and the start of a process for
each, which on an accelerator are most of the time. Zero-shot accuracy and latency are not measured.
"""

import copy
import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from lab.study.experiment_results import Result, Scores
from lab.study.grid import Experiment
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import place
from secateurs.errors import InputError
from secateurs.evaluation.perplexity import score_domains
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.kinds.kind import Masks
from secateurs.measure.capture import DomainCapture
from secateurs.pruner import prune_model, take_round_of_a_copy
from secateurs.settings.method import Settings
from secateurs.settings.sources import GENERATED
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import build_corpus
from secateurs.text.documents import Document, Sequence
from secateurs.text.generated import generate
from secateurs.text.parts import in_parts
from secateurs.text.rows import Text
from secateurs.text.sampling import go_on
from stages.common.corpus_inputs import corpus_inputs
from stages.params.file import Params
from stages.params.method_settings import method_settings

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
        pruned = self._scores(model, heldout, params)
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
            for domain in GENERATED:
                there = sources.pop(domain, None)
                if params.mixture[domain]:
                    sources[domain] = self._own_text(params, domain, there)
            sources, _ = in_parts(sources, params.sample.dialogues.parts)
            calibration, heldout = build_corpus(sources, tokens, benchmarks, params.corpus)
            return calibration.sequences, heldout.sequences

        return self._once(("corpus", _text_key(params)), draw)

    def _own_text(self, params: Params, domain: str, there: list[Document] | None) -> list[Document]:
        """What the dense model writes; `there` is that already, if the pipeline had the same settings."""

        def write() -> list[Document]:
            model = place(close_experts(copy.deepcopy(self.dense)), self.device)
            writer = partial(go_on, model)
            return generate(writer, self.tokenizer, params.sample, [domain], self.data / "model")[domain]

        if there is not None and params.sample == self.made_by.sample:
            return there
        if params.sample.engine != "ours":
            raise InputError(
                f"sample.engine: {params.sample.engine}: experiments write by ours alone; set it"
            )
        return self._once((domain, params.sample), write)

    def _pruned(self, params: Params, calibration: list[Sequence]) -> tuple[PreTrainedModel, float]:
        """What surgery would write, in host memory, and what it took with captures of its own."""
        start, shared = time.perf_counter(), 0.0

        def take(
            dense: PreTrainedModel, masks: Masks, text: Text, settings: Settings, name: str
        ) -> dict[str, DomainCapture]:
            nonlocal shared
            before = time.perf_counter()
            captures, took = self._capture(params, text, masks, settings, name)
            shared += took - (time.perf_counter() - before)
            return captures

        pruned = prune_model(self.dense, by_domain(calibration), method_settings(params), take_round=take)
        return pruned.model, time.perf_counter() - start + shared

    def _capture(
        self, params: Params, text: Text, masks: Masks, settings: Settings, name: str
    ) -> tuple[dict[str, DomainCapture], float]:
        """A round's statistics, and the seconds that they took when they were taken."""

        def take() -> tuple[dict[str, DomainCapture], float]:
            start = time.perf_counter()
            captures = take_round_of_a_copy(self.dense, masks, text, settings, name)
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
    return (params.corpus, params.sample, *(params.mixture[domain] > 0 for domain in GENERATED))
