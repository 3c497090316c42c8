"""What `secateurs prune` does: the library's steps from files to a checkpoint, in order."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.proof import Proof, proof_ids, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices.placement import passing_through, resolve_device
from secateurs.errors import InputError, SettingError
from secateurs.evaluation.cost import macs_per_token
from secateurs.evaluation.perplexity import DomainScore, geometric_mean, score_domains
from secateurs.evaluation.units import count, size
from secateurs.evaluation.verdict import Facts, advice, verdict
from secateurs.families.decoder import decoder_parameters
from secateurs.files.atomic import atomic
from secateurs.gguf.converter import CONVERTER, VARIABLE, find_converter
from secateurs.gguf.exporting import PRECISIONS, Programs, export_gguf
from secateurs.gguf.gguf_file import Target
from secateurs.gguf.llama_quantize import K_QUANTS, find_program
from secateurs.order import ENDINGS, Order, Source
from secateurs.prune import Pruned, prune_model
from secateurs.settings.groups import Corpus
from secateurs.settings.method import Settings, settings_of
from secateurs.settings.sources import FieldReader, HubModel, ModelSource, PathDomain, PathModel, PlainReader
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import Split, build_corpus
from secateurs.text.documents import Document
from secateurs.text.domains import documents
from secateurs.text.packing import tokens_of

Say = Callable[[str], object]
# Documents of a domain at most: enough for every round and for healing, read in seconds.
DOCUMENTS = 2000
HELDOUT_SEQUENCES = 8


def prune_to(order: Order, say: Say) -> None:
    """Prune a model by text and write `order.out`: checkpoint, tokenizer, model card, and a GGUF if asked.

    What is done, and a verdict at the end, goes to `say`. Raises InputError for what cannot be used, the
    settings and the text before the model is loaded; nothing is left under the final names then.
    """
    settings = settings_of(order.changes)
    programs = None if order.precision is None else _programs(order.precision)
    texts = {source.domain: documents(source.domain, _domain(source)) for source in order.sources}
    dense, tokenizer = load_dense(_source(order.model))
    calibration, heldout = _corpus(texts, tokenizer, settings, order.tokens)
    say(_plan(dense, settings, calibration, heldout))
    pruned = prune_model(
        dense, by_domain(calibration.sequences), settings, on_step=lambda step: say(f"{step} …")
    )
    in_precision(pruned.model, dense.dtype)
    scores = [_scores(model, tokenizer, heldout, settings.device) for model in (dense, pruned.model)]
    facts = _facts(dense, pruned.model, scores)
    with atomic(order.out) as directory:
        save_model(pruned.model, directory)
        save_tokenizer(tokenizer, directory)
        rows = proof_ids(heldout.sequences)
        proof = prove_load(pruned.model, directory, rows, order.out, tokenizer)
        (directory / "README.md").write_text(_card(order, pruned, facts, proof), encoding="utf-8")
    say(f"wrote {order.out}: loads in transformers {proof.version} as {proof.loaded}")
    if order.precision is not None and programs is not None:
        gguf = order.out.with_name(f"{order.out.name}.gguf")
        with atomic(gguf) as path:
            said = export_gguf(order.out, tokenizer, Target(path, order.precision, order.out.name), programs)
        say(f"wrote {gguf}: {said}")
    for line in (verdict(facts), *advice(facts)):
        say(line)


def _source(model: str) -> ModelSource:
    if Path(model).exists():
        return PathModel(source="path", path=model, name=Path(model).stem, licence="unknown", base_model=None)
    return HubModel(source="hub", id=model, revision="main", name=model.rpartition("/")[2], licence="unknown")


def _domain(source: Source) -> PathDomain:
    folder = Path(source.path).is_dir()
    path = f"{source.path.rstrip('/')}/**/*" if folder else source.path
    kind = ENDINGS.get(Path(source.path).suffix, "text")
    if kind in ("jsonl", "csv", "parquet"):
        if source.field is None:
            raise InputError(f"--text: {source.path}: which field holds the text? write {source.path}:FIELD")
        reader: FieldReader | PlainReader = FieldReader(format=kind, field=source.field)  # type: ignore[arg-type]
    elif source.field is not None:
        raise InputError(f"--text: {source.path}:{source.field}: only .jsonl, .csv and .parquet have fields")
    else:
        reader = PlainReader(format=kind)  # type: ignore[arg-type]
    return PathDomain(source="path", path=path, reader=reader, documents=DOCUMENTS, refused=None)


def _corpus(
    texts: Mapping[str, list[Document]], tokenizer: PreTrainedTokenizerBase, settings: Settings, tokens: int
) -> tuple[Split, Split]:
    surgery = settings.surgery
    wanted = max(settings.capture.sequences, surgery.sequences + surgery.choice_sequences)
    corpus = Corpus(
        sequence_length=tokens,
        calibration_sequences=wanted,
        heldout_sequences=HELDOUT_SEQUENCES,
        heldout_share=0.2,
        ngram=13,
        seed=0,
    )
    try:
        return build_corpus(texts, tokens_of(tokenizer, Path("the model's tokenizer")), set(), corpus)
    except SettingError as error:
        raise InputError(
            f"--text: {error}; or ask for less: --tokens 128 --set surgery.sequences=8"
        ) from None


def _plan(model: PreTrainedModel, settings: Settings, calibration: Split, heldout: Split) -> str:
    rows = len(calibration.sequences)
    return (
        f"{count(model.num_parameters())} parameters, {count(decoder_parameters(model))} in the decoder, of "
        f"which {_target(settings)} goes over {len(settings.rounds)} rounds; "
        f"{rows} sequences of {len(calibration.sequences[0].input_ids)} tokens calibrate, "
        f"{len(heldout.sequences)} others judge"
    )


def _target(settings: Settings) -> str:
    prune = settings.prune
    if prune.sparsity is not None:
        return f"{prune.sparsity:.0%}"
    if prune.parameters is not None:
        return f"so much that {count(prune.parameters)} are left"
    assert prune.memory is not None, "a checked budget has one target"
    return f"so much that {size(prune.memory.bytes)} in {prune.memory.precision} are left"


def _scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, heldout: Split, device: str
) -> dict[str, DomainScore]:
    with passing_through(model, resolve_device(device)):
        return score_domains(model, tokenizer, heldout.sequences, len(heldout.sequences))


def _facts(dense: PreTrainedModel, small: PreTrainedModel, scores: list[dict[str, DomainScore]]) -> Facts:
    before, after = scores
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


def _card(order: Order, pruned: Pruned, facts: Facts, proof: Proof) -> str:
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
    last = pruned.history[-1]
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
