"""What params.yaml asks for, as lines of text, from the settings alone: no model, no torch, no hub."""

from secateurs.settings.method import unread_gradients
from secateurs.settings.sources import DIALOGUE_DOMAIN
from secateurs.text.rows import times
from secateurs.text.vllm_installed import find_vllm
from stages.params.file import Params


def portions(params: Params) -> dict[str, int]:
    """How many sequences of each domain are read for each one that params.yaml asks of every domain."""
    domains = params.counted()
    others = len(domains) - (DIALOGUE_DOMAIN in domains)
    return {domain: times(1.0, others) if domain == DIALOGUE_DOMAIN else 1 for domain in domains}


def schedule(params: Params) -> list[str]:
    """What is removed by when, and how many tokens each pass reads.

    A target in parameters or bytes is no share of anything before the model's shapes are known.
    """
    share = params.prune.sparsity
    parts = portions(params)
    tokens = sum(parts.values()) * params.capture.sequences * params.corpus.sequence_length
    passes = "forward and backward" if params.capture.gradients else "forward only"
    dialogues = "(dialogues count as all others) " if max(parts.values()) > 1 else ""
    lines = [
        f"{sum(parts.values())} domains x {params.capture.sequences} sequences x "
        f"{params.corpus.sequence_length} tokens {dialogues}"
        f"= {tokens:,} tokens a round, {passes}; metric {params.mask.metric}"
    ]
    for name in params.chain():
        item = params.rounds[name]
        of = "what is to go" if share is None else "the decoder's parameters"
        removed = item.progress * (1.0 if share is None else share)
        lines.append(f"  {item.after} -> {name}: {removed:.1%} of {of} removed")
    lines.append(f"  {params.surgery.after} -> surgery: {params.surgery.heal} healing -> data/pruned")
    if params.sample.engine == "vllm":
        found, seeds = find_vllm(params.compute.vllm_python), (params.sample.seed, params.recover.own.seed)
        lines.append(
            f"The model's own text is written by vLLM {found.version} of {found.python}, seed {seeds[0]} (to "
            f"recover by, seed {seeds[1]})."
        )
    hint = unread_gradients(params.mask, params.capture)
    return lines if hint is None else [*lines, f"Hint: {hint}."]
