"""The README.md that travels with a pruned checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import transformers
from ruamel.yaml import YAML

from secateurs.checkpoints.origin import base_model, origin_of
from secateurs.checkpoints.proof import Proof
from secateurs.evaluation.untrusted import words
from secateurs.heal.healed import Healed, TokensHealed
from secateurs.kinds.registry import units
from stages.params.file import Params


@dataclass(frozen=True)
class Measures:
    """Parameters of the decoder layers and of all, and the mean calibration loss in nats per token."""

    decoder: int
    parameters: int
    loss: float


@dataclass(frozen=True)
class CalibrationText:
    """The length of its sequences in tokens, and what wrote it, by domain, where that is recorded."""

    sequence_length: int
    written_by: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def model_card(
    params: Params,
    history: list[dict[str, Any]],
    text: CalibrationText,
    before: Measures,
    after: Measures,
    healed: Healed,
    proof: Proof,
) -> str:
    """Markdown with the hub's front matter.

    history: the entries of the rounds; before, after: the dense and the pruned model's measures;
    healed: what healing did; proof: how the checkpoint was loaded back.
    """
    model, surgery, last = params.model, params.surgery, history[-1]
    prune = last["prune"]
    mixture = ", ".join(f"{name} {weight:g}" for name, weight in params.mixture.items() if weight)
    base = base_model(model)
    front = {
        "license": model.licence,
        **({"base_model": base} if base else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }
    gone = 1 - (after.decoder / before.decoder if prune["sites"] else after.parameters / before.parameters)
    lines = ["---", *_yaml(front | {"tags": ["pruned"]}), "---", ""]
    lines += [
        f"# {words(model.name)}, pruned by {gone:.0%}",
        "",
        f"{words(model.name)} ({words(origin_of(model))}),",
        f"with {_what(prune)} removed by Secateurs.",
        f"The base model's licence, {words(model.licence)}, applies.",
        "Evaluate it on your own task before use.",
        "",
        "## Size",
        "",
        "| | dense | pruned | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| parameters | {before.parameters:,} | {after.parameters:,} "
        f"| {after.parameters / before.parameters:.3f} |",
        f"| of which decoder layers | {before.decoder:,} | {after.decoder:,} "
        f"| {after.decoder / before.decoder:.3f} |",
        "",
        "## How it was made",
        "",
        *_rounds(len(history), last["metric"], prune),
        *_given(last),
        *_vocabulary(prune, healed.tokens),
        f"- calibration: {max(last['sequences'].values())} sequences of {text.sequence_length} tokens "
        f"from each of {sum(weight > 0 for weight in params.mixture.values())} domains ({mixture})",
        *writers(text.written_by),
        f"- healing: `{healed.method}`, alpha {surgery.alpha:g}, ridge {surgery.ridge:g}, "
        f"{surgery.sequences} sequences a domain{_reconstruction(params)}; no training end to end",
        *_choice(surgery.choice_sequences, healed),
        "- loss on text that healing fitted, which flatters, nats per token: "
        f"dense {before.loss:.3f}, pruned {after.loss:.3f}",
        "",
        "| round | decoder removed | calibration loss before it, mean over domains |",
        "| --- | ---: | ---: |",
    ]
    for entry in history:
        loss = sum(entry["loss"].values()) / len(entry["loss"])
        lines.append(f"| {entry['round']} | {entry['sparsity']:.1%} | {loss:.3f} nats |")
    lines += ["", "## Runtimes tried", "", *runtimes(proof)]
    return "\n".join(lines) + "\n"


def _what(prune: dict[str, Any]) -> str:
    parts = [
        *([f"whole {units(prune['sites'])}"] if prune["sites"] else []),
        *(["tokens"] if "rows" in prune else []),
    ]
    return " and ".join(parts)


def _rounds(count: int, metric: str, prune: dict[str, Any]) -> list[str]:
    if not prune["sites"]:
        return []
    return [
        f"- {count} rounds of capture and mask by `{metric}`, {prune['widths']} widths "
        f"(multiples of {prune['width_multiple']}), sites: {', '.join(prune['sites'])}"
    ]


def _given(last: dict[str, Any]) -> list[str]:
    if "removed" not in last:
        return []
    return [
        f"- parameters removed: {', '.join(f'{kind} {part:,}' for kind, part in last['removed'].items())}"
    ]


def _vocabulary(prune: dict[str, Any], healed: TokensHealed | None) -> list[str]:
    if "rows" not in prune:
        return []
    return [
        f"- vocabulary: {prune['rows']:,} tokens stay, by their counts in calibration text; the tokenizer "
        "cuts text of them as the dense one does, and spells all other text with their parts",
        *([] if healed is None else [_tokens(healed)]),
    ]


def _tokens(healed: TokensHealed) -> str:
    if not healed.steps:
        return (
            "- rows of tokens were not trained, because no text to heal or to choose by has a token that went"
        )
    return (
        f"- {healed.rows:,} rows of tokens into which others fall were trained with the norms for "
        f"{healed.steps} steps; loss on left-out text with such tokens, nats per token: {healed.before:.4f} "
        f"before, {healed.after:.4f} after"
    )


def _choice(sequences: int, healed: Healed) -> list[str]:
    if not healed.divergences:
        return []
    found = ", ".join(f"`{method}` {value:.4f}" for method, value in healed.divergences.items())
    return [
        f"- that healing was chosen by mean divergence from the dense model on {sequences} other sequences a "
        f"domain, nats per token: {found}"
    ]


def _yaml(front: dict[str, Any]) -> list[str]:
    """Lines of YAML, in the order given: what a value says stays a value."""
    stream = StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(front, stream)
    return stream.getvalue().splitlines()


def _reconstruction(params: Params) -> str:
    training = params.surgery.reconstruct
    if not training.epochs:
        return ""
    return (
        f"; then each layer trained against its dense original for {training.epochs} epochs of them "
        f"(AdamW, learning rate {training.learning_rate:g}, {training.batch_size} sequences a step)"
    )


def writers(written_by: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines that say which engine wrote the text of a domain, where that is recorded."""
    return [
        f"- text of `{domain}`: written by the dense model through {facts['engine']} {facts['version']}, in "
        f"{facts['dtype']}, seed {facts['seed']}"
        for domain, facts in written_by.items()
    ]


def runtimes(proof: Proof) -> list[str]:
    """Lines that say what has loaded a checkpoint, and how well."""
    own = "" if hasattr(transformers, proof.loaded) else ", with `trust_remote_code=True`"
    return [
        f"- transformers {proof.version}: loaded in a fresh process from these files alone (`{proof.loaded}`"
        f"{own}); logits of {proof.tokens} tokens differ from the model in memory by {proof.difference:.1g} "
        "of their spread, and the tokenizer gives the same ids",
        "",
        "No other runtime was tried on this checkpoint when it was written.",
    ]
