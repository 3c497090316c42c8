"""What `secateurs prune` does: the library's steps from files to a checkpoint, in order."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from secateurs.checkpoints.dense import add_processor, load_dense
from secateurs.checkpoints.proof import proof_ids, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.choose.target import check_target, rounding
from secateurs.command_estimate import estimate_lines
from secateurs.command_inputs import Read, read_text
from secateurs.command_measured import Judges, Measured, facts_of, measured, table
from secateurs.command_recovery import check_recovery, recover_pruned, training_text
from secateurs.errors import InputError
from secateurs.evaluation.units import count, size
from secateurs.evaluation.verdict import Facts, advice, verdict
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import open_experts
from secateurs.families.twins import shapes_of
from secateurs.files.atomic import atomic
from secateurs.gguf.converter import CONVERTER, VARIABLE, find_converter
from secateurs.gguf.exporting import PRECISIONS, Programs, export_gguf
from secateurs.gguf.gguf_file import Target
from secateurs.gguf.llama_quantize import K_QUANTS, find_program
from secateurs.kind_trials import choose_kinds
from secateurs.order import Order, corpus_of, model_source, text_domain
from secateurs.order_tasks import items_of, ngrams_in
from secateurs.pruner import Pruned, prune_model
from secateurs.settings.method import Settings
from secateurs.settings.pruning import AUTO, Prune
from secateurs.settings.sources import StockBenchmark
from secateurs.text.calibration import by_domain
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
    settings, items and text before the model is loaded; nothing is left under the final names then.
    """
    settings, corpus = order.settings, corpus_of(order)
    programs = None if order.precision is None else _programs(order.precision)
    items = items_of(order.tasks)
    avoid = ngrams_in(items, corpus.ngram)
    texts = {source.domain: documents(source.domain, text_domain(source)) for source in order.sources}
    source = model_source(order.model)
    say(f"reading {order.model} …")
    dense, tokenizer = load_dense(source)
    shapes = shapes_of(dense.config)
    for line in estimate_lines(order, shapes, dense.dtype, out):
        say(line)
    read = read_text(texts, tokenizer, settings, corpus, avoid)
    trained = {}
    if order.recovery is not None:
        check_recovery(order, dense)
        trained = training_text(texts, tokenizer, order, read.heldout, avoid)
    text, heldout = by_domain(read.calibration.sequences), read.heldout
    if settings.prune.sites == AUTO:
        say("trials of each kind …")
        chosen = choose_kinds(dense, tokenizer, text, settings, counts=read.counts, say=say)
        say(f"chosen: {chosen.said()}")
        settings = settings.changed(prune=chosen.settled(settings.prune))
    say(_plan(dense, settings, read))
    for line in _warnings(open_experts(shapes), settings.prune):
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
    stock = frozenset(task for task, one in order.tasks.items() if isinstance(one, StockBenchmark))
    judges = Judges(heldout, tokenizer, items, stock, order.asking, settings.device)
    models = {"dense": measured(dense, tokenizer, judges), "pruned": measured(pruned.model, trimmed, judges)}
    done = [_done(pruned)]
    if order.recovery is not None:
        recovered = recover_pruned(pruned, dense, tokenizer, trained, order, say)
        in_precision(pruned.model, dense.dtype)
        done.append(recovered.said())
        say(done[-1])
        models["recovered"] = measured(pruned.model, trimmed, judges)
    facts = facts_of(models["dense"], list(models.values())[-1], "recovered" in models)
    with atomic(out) as directory:
        save_model(pruned.model, directory)
        save_tokenizer(trimmed, directory)
        add_processor(source, dense.config, directory)
        rows = heldout.sequences
        if trimmed is not tokenizer:
            rows = recut(rows, tokenizer, trimmed)
        proof = prove_load(pruned.model, directory, proof_ids(rows), out, trimmed)
        there, left = vocabulary_rows(dense), vocabulary_rows(pruned.model)
        if left < there:
            done.insert(0, f"{left:,} of {there:,} rows of the vocabulary are left, and a tokenizer for them")
        done.append(f"loaded back by transformers {proof.version} as `{proof.loaded}` in a fresh process")
        name = Path(order.model).name
        (directory / "README.md").write_text(_card(name, facts, models, done), encoding="utf-8")
    say(f"wrote {out}: loads in transformers {proof.version} as {proof.loaded}")
    gguf = None
    if order.precision is not None and programs is not None:
        gguf = out.with_name(f"{out.name}.gguf")
        with atomic(gguf) as path:
            said = export_gguf(out, trimmed, Target(path, order.precision, out.name), programs)
        say(f"wrote {gguf}: {said}")
    for line in (*table(models), verdict(facts), *advice(facts)):
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


def _warnings(shapes: PreTrainedModel, budget: Prune) -> Iterator[str]:
    """What a target comes to otherwise than it was asked for; InputError where it cannot be met."""
    if budget.sites:
        check_target(shapes, budget)
        yield from rounding(shapes, budget)


def _target(settings: Settings) -> str:
    prune = settings.prune
    if not prune.sites:
        return "nothing"
    if prune.sparsity is not None:
        return f"{prune.sparsity:.0%}"
    if prune.parameters is not None:
        return f"so much that {count(prune.parameters)} are left"
    if prune.multiply_adds is not None:
        return f"so much that a token takes {count(prune.multiply_adds)} multiply-adds"
    assert prune.memory is not None, "a checked budget has one target"
    return f"so much that {size(prune.memory.bytes)} in {prune.memory.precision} are left"


def _done(pruned: Pruned) -> str:
    last = pruned.history[-1]
    return (
        f"{last['sparsity']:.1%} of the decoder's parameters removed by Secateurs in "
        f"{len(pruned.history)} rounds (`{last['metric']}`), healed by `{pruned.healing.method}`"
    )


def _card(name: str, facts: Facts, models: Mapping[str, Measured], done: list[str]) -> str:
    """What became of the model, in Markdown, with the hub's front matter. done: what was done to it."""
    how = "pruned and recovered" if facts.recovered else "pruned"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [pruned]",
        "---",
        "",
        f"# {name}, {how}",
        "",
        verdict(facts),
        "",
        *table(models),
        "",
        *(f"- {line}" for line in (*advice(facts), *done)),
    ]
    return "\n".join([*lines, ""])


def _programs(precision: str) -> Programs:
    """What the export will run, looked for before the pruning and not after it."""
    if precision not in PRECISIONS:
        raise InputError(f"--export: {precision}: no such precision; there are {', '.join(PRECISIONS)}")
    program = find_program("llama-quantize") if precision in K_QUANTS else None
    return Programs(find_converter(os.environ.get(VARIABLE, CONVERTER), VARIABLE), program)
