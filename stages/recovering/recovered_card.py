"""The README.md of a recovered checkpoint: the pruned one's, with what was done to it since."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateurs.checkpoints.proof import Proof
from secateurs.settings.recovery import Training
from stages.reporting.model_card import runtimes, writers

ALL = "all"
DIVERGENCES = {
    "forward": "KL(dense || model)",
    "reverse": "KL(model || dense)",
    "js": "the Jensen-Shannon divergence",
}
AGREEMENT = {
    "tokens": "Of its answers' tokens the pruned model held {before:.1%} likeliest, and the recovered one "
    "{after:.1%}.",
    "numbers": "Of its answers' last numbers the pruned model came to {before:.1%}, and the recovered one to "
    "{after:.1%}.",
}
BEST = {
    "divergence": "the divergence on left-out text was lowest",
    "agreement": "the agreement with the dense model's answers was highest",
}


@dataclass(frozen=True)
class Recovery:
    """What was done, and what came of it.

    scales_first: steps of scales that were kept before, 0 for none. steps: how many were made then; the
    weights are those after `kept` of them.
    tokens: read in training. parameters: how many were trained. shares: of each kind of text, together 1.
    before, after: mean divergence from the dense model on text left out of the training, nats per token, by
    kind of text and of ALL. agreement: with the dense model's answers to left-out questions, `before` and
    `after`, shares; None where none were asked. written_by: what wrote text, by domain, where
    that is recorded.
    """

    training: Training
    scales_first: int
    steps: int
    kept: int
    tokens: int
    parameters: int
    shares: Mapping[str, float]
    before: Mapping[str, float]
    after: Mapping[str, float]
    agreement: Mapping[str, float] | None = None
    written_by: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
        if heading == "Size":
            parts.insert(1, section)
        elif heading == "How it was made":
            parts.append(f"How it was pruned\n{text}")
    parts.append("\n".join(["Runtimes tried", "", *runtimes(proof)]) + "\n")
    return "\n## ".join(parts)


def _recovery(recovery: Recovery) -> list[str]:
    training, before, after = recovery.training, recovery.before, recovery.after
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in recovery.shares.items())
    what = {
        "all": "decoder layers and final norm; embeddings and head are the dense model's",
        "low_rank": f"matrices of rank {training.low_rank.rank} beside projections, since added to them",
        "routers": "what routers make their logits of; experts and all else are as pruning left them",
        "scales": "norms, and factors on the inputs of output projections, since folded into their weights",
    }
    first = f"- first {recovery.scales_first:,} steps of norms and factors alone, folded into the weights"
    how = training.on_policy
    own = (
        f"- {training.answers():,} of each step's {training.batch_size:,} sequences were answers that it "
        f"wrote itself, of {how.first_tokens:,} tokens at first and up to {how.tokens:,} later, trained by "
        f"{DIVERGENCES[how.divergence]}"
    )
    return [
        "How it was recovered",
        "",
        "After pruning, it was trained to give the dense model's next-token distributions (Kullback-Leibler",
        "divergence, temperature 1, no labels) on calibration documents, more of each than pruning reads,",
        "and on text that the dense model wrote itself.",
        "",
        *writers(recovery.written_by),
        *([first] if recovery.scales_first else []),
        f"- {recovery.parameters:,} parameters trained: {what[training.weights]}",
        f"- {recovery.steps:,} steps of {training.batch_size} sequences, {recovery.tokens:,} tokens with "
        f"repetitions ({shares}); the weights are those after step {recovery.kept:,}, when "
        f"{BEST[training.best_by]}",
        *([own] if how.share else []),
        f"- AdamW without weight decay, learning rate {training.learning_rate:g} after a warm-up of "
        f"{training.warmup:.0%} of the steps, then falling along a cosine; gradients clipped at a norm of "
        f"{training.clip:g}",
        "",
        "| divergence from the dense model on left-out text, nats per token | pruned | recovered |",
        "| --- | ---: | ---: |",
        *(f"| {kind} | {before[kind]:.4f} | {after[kind]:.4f} |" for kind in before),
        "",
        *_agreement(recovery),
    ]


def _agreement(recovery: Recovery) -> list[str]:
    if recovery.agreement is None:
        return []
    shares = recovery.agreement
    return [
        f"The dense model answered {recovery.training.abilities.questions:,} questions of its own that are "
        f"left out of training. {AGREEMENT[recovery.training.abilities.measure].format(**shares)}",
        "",
    ]
