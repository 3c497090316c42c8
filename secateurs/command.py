"""What `secateurs prune` does: the library's steps from files to a checkpoint, in order."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.dense import add_processor, load_dense
from secateurs.checkpoints.proof import Proof, proof_ids, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.choose.target import check_target, coarse_steps, decoder_share, reached_share
from secateurs.command_inputs import Read, read_text
from secateurs.devices.placement import passing_through, resolve_device
from secateurs.errors import InputError
from secateurs.evaluation.cost import macs_per_token
from secateurs.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from secateurs.evaluation.units import count, size
from secateurs.evaluation.verdict import Facts, advice, verdict
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import open_experts
from secateurs.families.twins import auto_class
from secateurs.files.atomic import atomic
from secateurs.gguf.converter import CONVERTER, VARIABLE, find_converter
from secateurs.gguf.exporting import PRECISIONS, Programs, export_gguf
from secateurs.gguf.gguf_file import Target
from secateurs.gguf.llama_quantize import K_QUANTS, find_program
from secateurs.kind_trials import choose_kinds
from secateurs.order import Order, corpus_of, model_source, text_domain
from secateurs.pruning import Pruned, prune_model
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO, Prune
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import Split
from secateurs.text.domains import documents
from secateurs.text.recutting import recut
from secateurs.vocabulary.embedding_rows import vocabulary_rows

Say = Callable[[str], object]


@dataclass(frozen=True)
class Result:
    """What was written: a checkpoint, a GGUF file if one was asked for; and what the verdict is of."""

    out: Path
    gguf: Path | None
    facts: Facts


def prune_to(order: Order, out: Path, say: Say) -> Result:
    """Prune a model by text and write `out`: checkpoint, tokenizer, model card, and a GGUF if asked.

    What is done, and a verdict at the end, goes to `say`. Raises InputError for what cannot be used, the
    settings and the text before the model is loaded; nothing is left under the final names then.
    """
    settings = order.settings
    programs = None if order.precision is None else _programs(order.precision)
    texts = {source.domain: documents(source.domain, text_domain(source)) for source in order.sources}
    source = model_source(order.model)
    say(f"reading {order.model} …")
    dense, tokenizer = load_dense(source)
    read = read_text(texts, tokenizer, settings, corpus_of(order))
    text, heldout = by_domain(read.calibration.sequences), read.heldout
    if settings.prune.sites == AUTO:
        say("trials of each kind …")
        chosen = choose_kinds(dense, tokenizer, text, settings, counts=read.counts, say=say)
        say(f"chosen: {chosen.said()}")
        settings = settings.changed(prune=chosen.settled(settings.prune))
    say(_plan(dense, settings, read))
    for line in _warnings(dense.config, settings.prune):
        say(f"Warning: {line}")
    pruned = prune_model(
        dense,
        text,
        settings,
        tokenizer=tokenizer,
        counts=read.counts,
        on_step=lambda step: say(f"{step} …"),
    )
    trimmed = pruned.tokenizer
    assert trimmed is not None, "a tokenizer was given"
    in_precision(pruned.model, dense.dtype)
    before = _scores(dense, tokenizer, heldout, settings.device)
    after = _scores(pruned.model, trimmed, heldout, settings.device, cut_by=tokenizer)
    facts = _facts(dense, pruned.model, before, after)
    with atomic(out) as directory:
        save_model(pruned.model, directory)
        save_tokenizer(trimmed, directory)
        add_processor(source, dense.config, directory)
        rows = heldout.sequences
        if trimmed is not tokenizer:
            rows = recut(rows, tokenizer, trimmed)
        proof = prove_load(pruned.model, directory, proof_ids(rows), out, trimmed)
        (directory / "README.md").write_text(_card(order, dense, pruned, facts, proof), encoding="utf-8")
    say(f"wrote {out}: loads in transformers {proof.version} as {proof.loaded}")
    gguf = None
    if order.precision is not None and programs is not None:
        gguf = out.with_name(f"{out.name}.gguf")
        with atomic(gguf) as path:
            said = export_gguf(out, trimmed, Target(path, order.precision, out.name), programs)
        say(f"wrote {gguf}: {said}")
    for line in (verdict(facts), *advice(facts)):
        say(line)
    return Result(out, gguf, facts)


def _plan(model: PreTrainedModel, settings: Settings, read: Read) -> str:
    calibration, rows = read.calibration.sequences, settings.prune.vocabulary.rows
    tokens = f"{rows:,} of {vocabulary_rows(model):,} rows of the vocabulary stay; " if rows else ""
    return (
        f"{count(model.num_parameters())} parameters, {count(decoder_parameters(model))} in the decoder, of "
        f"which {_target(settings)} goes over {len(settings.rounds)} rounds; {tokens}"
        f"{len(calibration)} sequences of {len(calibration[0].input_ids)} tokens calibrate, "
        f"{len(read.heldout.sequences)} others judge"
    )


def _warnings(config: PretrainedConfig, budget: Prune) -> Iterator[str]:
    """What a target comes to otherwise than it was asked for; InputError where it cannot be met."""
    if budget.sites:
        with torch.device("meta"):
            shapes = open_experts(auto_class(config).from_config(config))
        check_target(shapes, budget)
        if coarse := coarse_steps(budget, decoder_share(shapes, budget), reached_share(shapes, budget)):
            yield coarse


def _target(settings: Settings) -> str:
    prune = settings.prune
    if not prune.sites:
        return "nothing"
    if prune.sparsity is not None:
        return f"{prune.sparsity:.0%}"
    if prune.parameters is not None:
        return f"so much that {count(prune.parameters)} are left"
    assert prune.memory is not None, "a checked budget has one target"
    return f"so much that {size(prune.memory.bytes)} in {prune.memory.precision} are left"


def _scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    heldout: Split,
    device: str,
    cut_by: PreTrainedTokenizerBase | None = None,
) -> dict[str, DomainScore]:
    with passing_through(model, resolve_device(device)):
        return score_domains(model, tokenizer, heldout.sequences, len(heldout.sequences), cut_by)


def _facts(
    dense: PreTrainedModel,
    small: PreTrainedModel,
    before: dict[str, DomainScore],
    after: dict[str, DomainScore],
) -> Facts:
    ratios = {domain: after[domain].perplexity / before[domain].perplexity for domain in before}
    worst = max(ratios, key=lambda domain: ratios[domain])
    sizes = [sum(one.numel() * one.element_size() for one in model.parameters()) for model in (dense, small)]
    return Facts(
        parameters=(dense.num_parameters(), small.num_parameters()),
        weight_bytes=(sizes[0], sizes[1]),
        macs_per_token=(macs_per_token(dense), macs_per_token(small)),
        perplexity=geometric_mean(after) / geometric_mean(before),
        worst=(worst, ratios[worst]),
    )


def _card(order: Order, dense: PreTrainedModel, pruned: Pruned, facts: Facts, proof: Proof) -> str:
    """What became of the model, in Markdown, with the hub's front matter."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [pruned]",
        "---",
        "",
    ]
    lines += [f"# {Path(order.model).name}, pruned", "", verdict(facts), ""]
    lines += [f"- {line}" for line in advice(facts)]
    last, there, rows = pruned.history[-1], *map(vocabulary_rows, (dense, pruned.model))
    if rows < there:
        lines.append(f"- {rows:,} of {there:,} rows of the vocabulary are left, and a tokenizer for them")
    return "\n".join(
        [
            *lines,
            f"- {last['sparsity']:.1%} of the decoder's parameters removed by Secateurs in "
            f"{len(pruned.history)} rounds (`{last['metric']}`), healed by `{pruned.healing.method}`",
            f"- loaded back by transformers {proof.version} as `{proof.loaded}` in a fresh process",
            "",
        ]
    )


def _programs(precision: str) -> Programs:
    """What the export will run, looked for before the pruning and not after it."""
    if precision not in PRECISIONS:
        raise InputError(f"--export: {precision}: no such precision; there are {', '.join(PRECISIONS)}")
    program = find_program("llama-quantize") if precision in K_QUANTS else None
    return Programs(find_converter(os.environ.get(VARIABLE, CONVERTER), VARIABLE), program)
