"""The README.md of a recovered checkpoint: the pruned one's, with what was done to it since."""

from dataclasses import dataclass

from stages.checkpoints.model_card import runtimes
from stages.checkpoints.proof import Proof
from stages.pruning.recovery import Training


@dataclass(frozen=True)
class Fit:
    """On some of the calibration text: mean token loss, and mean divergence from the dense model; in nats."""

    loss: float
    divergence: float


@dataclass(frozen=True)
class Recovery:
    """A recovery. tokens: read in training; parameters: how many were trained; before, after: see Fit."""

    training: Training
    tokens: int
    parameters: int
    before: Fit
    after: Fit


def recovered_card(pruned_card: str, recovery: Recovery, proof: Proof) -> str:
    """Markdown with the hub's front matter.

    pruned_card: the pruned checkpoint's, as model_card made it; proof: how the recovered one was loaded.
    """
    opening, *sections = pruned_card.split("\n## ")
    front, _, rest = opening.partition("\n# ")
    title, _, body = rest.partition("\n")
    parts = [f"{front}\n# {title}, then recovered\n{body}", "\n".join(_recovery(recovery))]
    for section in sections:
        heading, _, text = section.partition("\n")
        if heading == "How it was made":
            parts.append(f"How it was pruned\n{text}")
    parts.append("\n".join(["Runtimes tried", "", *runtimes(proof)]) + "\n")
    return "\n## ".join(parts)


def _recovery(recovery: Recovery) -> list[str]:
    training, before, after = recovery.training, recovery.before, recovery.after
    return [
        "How it was recovered",
        "",
        "After pruning, the weights were trained to give the dense model's next-token distributions on",
        "calibration documents, more of each than pruning reads (Kullback-Leibler divergence, temperature 1,",
        "no labels).",
        "",
        f"- {training.steps:,} steps of {training.batch_size} sequences, {recovery.tokens:,} tokens with "
        "repetitions, domains in the shares given below",
        f"- AdamW without weight decay, learning rate {training.learning_rate:g} after a warm-up of "
        f"{training.warmup:.0%} of the steps, then falling along a cosine; gradients clipped at a norm of "
        f"{training.clip:g}",
        f"- {recovery.parameters:,} parameters trained: decoder layers and final norm; embeddings and head "
        "are the dense model's",
        "",
        "| on text that was trained on, nats per token | pruned | recovered |",
        "| --- | ---: | ---: |",
        f"| divergence from the dense model | {before.divergence:.4f} | {after.divergence:.4f} |",
        f"| calibration loss | {before.loss:.3f} | {after.loss:.3f} |",
        "",
    ]
