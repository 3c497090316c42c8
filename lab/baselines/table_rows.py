"""The rows of the table: what each does to a copy of the dense model."""

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lab.baselines.four_bits import to_four_bits
from lab.baselines.layer_removal import angular, block_influence
from lab.baselines.margins import answers_of, margin_losses, with_answers
from lab.baselines.two_stages import two_stages
from lab.baselines.width import Method, flap, gisp, magnitude, taylor, wanda_sp
from lab.study.settings import changed
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import copied, place, resolve_device
from secateurs.errors import InputError
from secateurs.pruner import prune_model
from secateurs.text.portions import healing_text
from secateurs.text.rows import Text
from stages.common.paths import MODEL
from stages.params.file import Params
from stages.params.method_settings import method_settings

DENSE, FOUR_BITS, OURS, OPTIPFAIR = "dense", "four-bits", "secateurs", "optipfair-data"
METHODS: Mapping[str, tuple[str, Method]] = {
    "magnitude": ("magnitude", magnitude),
    "wanda-sp": ("Wanda-sp", wanda_sp),
    "flap": ("FLAP", flap),
    "llm-pruner": ("LLM-Pruner, Taylor", taylor),
    "gisp": ("GISP", gisp),
    "depth-influence": ("depth, block influence", block_influence),
    "depth-angular": ("depth, angular distance", angular),
    "2ssp": ("2SSP", two_stages),
}
"""Written anew here, with what each is called in the table."""

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Given:
    """What every row is given: the dense model in host memory, its tokenizer, params, and calibration text.

    text: all calibration text; without: a domain that no row reads, empty for none; optipfair: a Python that
    has optipfair installed, which brings its own idea of which libraries belong beside it.
    """

    dense: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    params: Params
    text: Text
    without: str
    optipfair: Path | None

    def sequences(self) -> dict[str, Tensor]:
        """The text that the other methods read: what our healing reads."""
        text = healing_text(self.text, method_settings(self.params))
        return {domain: ids for domain, ids in text.items() if domain != self.without}

    def copied(self) -> PreTrainedModel:
        """A copy of the dense model where params.yaml computes."""
        return place(copied(self.dense, self.params.compute.device), self.params.compute.device)


@dataclass(frozen=True)
class Row:
    """A row: its key and title, whether it is pruned to a share, and what makes the model of it."""

    key: str
    title: str
    prunes: bool
    make: Callable[[Given, float], PreTrainedModel]


def all_rows(beside: Iterable[Path], ours: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Every row, the dense model first.

    beside: checkpoints of other dense models of the family. ours: further rows of this project by title, with
    what they set in params.yaml as `a.b: value`.
    """
    rows = [
        Row(DENSE, DENSE, False, lambda given, share: given.copied()),
        Row(FOUR_BITS, "dense, 4 bits (Q4_0)", False, _four_bits),
    ]
    rows += [Row(f"beside:{path}", f"dense, {path.name}", False, _loader(path)) for path in beside]
    rows.append(Row(OURS, "Secateurs, default settings", True, _ours({})))
    rows += [Row(f"{OURS}:{title}", f"Secateurs, {title}", True, _ours(some)) for title, some in ours.items()]
    rows += [Row(key, title, True, _by(method)) for key, (title, method) in METHODS.items()]
    rows.append(Row("gisp-margin", "GISP, margin loss", True, _gisp_by_margin))
    rows.append(Row(OPTIPFAIR, "optipfair, data-driven", True, _optipfair))
    return rows


def _four_bits(given: Given, share: float) -> PreTrainedModel:
    model = given.copied()
    to_four_bits(model)
    return model


def _loader(path: Path) -> Callable[[Given, float], PreTrainedModel]:
    def load(given: Given, share: float) -> PreTrainedModel:
        # Perplexities per token compare only where tokens are the same.
        if load_tokenizer(path).get_vocab() != given.tokenizer.get_vocab():
            raise InputError(
                f"{path}: has another vocabulary than the dense model, so nothing compares per token"
            )
        return place(load_model(path, given.params.compute.dtype), given.params.compute.device)

    return load


def _ours(settings: Mapping[str, Any]) -> Callable[[Given, float], PreTrainedModel]:
    def make(given: Given, share: float) -> PreTrainedModel:
        # The others keep the whole vocabulary.
        settled = {"prune.vocabulary.rows": 0, **settings, "prune.sparsity": share}
        tree = changed(given.params.model_dump(mode="json"), settled)
        if given.without:
            tree["mixture"][given.without] = 0.0
        params = Params.model_validate(tree)
        pruned = prune_model(given.dense, given.text, method_settings(params))
        return place(pruned.model, params.compute.device)

    return make


def _by(method: Method) -> Callable[[Given, float], PreTrainedModel]:
    def make(given: Given, share: float) -> PreTrainedModel:
        model = given.copied()
        method(model, given.sequences(), share)
        return model

    return make


def _gisp_by_margin(given: Given, share: float) -> PreTrainedModel:
    answers = answers_of(given.tokenizer)
    model, sequences = given.copied(), with_answers(given.sequences(), answers)
    gisp(model, sequences, share, margin_losses(answers))
    return model


def _optipfair(given: Given, share: float) -> PreTrainedModel:
    if given.optipfair is None:
        raise InputError(
            "--optipfair: not given; it names a Python with optipfair, which `make baselines` has"
        )
    compute = given.params.compute
    with TemporaryDirectory(prefix="secateurs-optipfair-") as scratch:
        text, pruned = Path(scratch, "text.safetensors"), Path(scratch, "pruned")
        save_file({domain: ids.contiguous() for domain, ids in given.sequences().items()}, text)
        device = resolve_device(compute.device)
        asked = (MODEL, text, f"{share}", f"{device}", compute.dtype, pruned)
        command = [str(given.optipfair), "-m", "lab.baselines.optipfair", *map(str, asked)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            raise InputError(f"--optipfair: {given.optipfair}: cannot be started: {error.strerror}") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise InputError(f"optipfair: {lines[-1].strip()}")
        return place(load_model(pruned, compute.dtype), compute.device)
