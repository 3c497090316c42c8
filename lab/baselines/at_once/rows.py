"""The rows of the table that is made in one process: what each does to a copy of the dense model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lab.baselines.catalogue import BASELINES
from lab.baselines.depth import angular, block_influence
from lab.baselines.four_bits import to_four_bits
from lab.baselines.margins import answers_of, margin_losses, with_answers
from lab.baselines.two_stages import two_stages
from lab.baselines.walk import Sequences
from lab.baselines.width import METHODS, Method, gisp
from lab.study.settings import changed
from secateurs.checkpoints.loading import load_model, load_tokenizer
from secateurs.devices.placement import copied, place
from secateurs.errors import InputError
from secateurs.prune import prune_model
from secateurs.text.portions import healing_text
from secateurs.text.rows import Text
from stages.params.file import Params
from stages.params.method import method_settings

DENSE, FOUR_BITS, OURS = "dense", "four-bits", "secateurs"
FOUR_BITS_TITLE = "dense, 4 bits (Q4_0)"


@dataclass(frozen=True)
class Given:
    """What every row is given: the dense model in host memory, its tokenizer, params, and calibration text.

    text: all calibration text; without: a domain that no row reads, empty for none.
    """

    dense: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    params: Params
    text: Text
    without: str

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
        Row(FOUR_BITS, FOUR_BITS_TITLE, False, _four_bits),
    ]
    rows += [Row(f"beside:{path}", f"dense, {path.name}", False, _loader(path)) for path in beside]
    rows.append(Row(OURS, BASELINES[OURS].title, True, _ours({})))
    rows += [Row(f"{OURS}:{title}", f"Secateurs, {title}", True, _ours(some)) for title, some in ours.items()]
    for key, method in {**METHODS, "depth-influence": block_influence, "depth-angular": angular}.items():
        rows.append(Row(key, BASELINES[key].title, True, _by(method)))
    rows.append(Row("gisp-margin", "GISP, margin loss", True, _gisp_by_margin))
    rows.append(Row("2ssp", "2SSP", True, _by(two_stages)))
    rows.append(Row("optipfair-data", BASELINES["optipfair-data"].title, True, _optipfair))
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
        tree = changed(given.params.model_dump(mode="json"), {**settings, "prune.sparsity": share})
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
    try:
        from lab.baselines.programs.optipfair import prune
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed here") from None
    sequences: Sequences = given.sequences()
    model, _ = prune(given.copied(), sequences, share, data_driven=True)
    return model
