"""Stage: calibration and held-out sequences of every domain."""

import click

from secateurs.families.decoder import text_config
from secateurs.settings.sources import GENERATED
from secateurs.text.corpus import build_corpus
from secateurs.text.parts import in_parts
from stages.common.artifacts import write_sequences, writers_of
from stages.common.checkpoints import load_config, load_tokenizer
from stages.common.console import stage, summary
from stages.common.corpus_inputs import corpus_inputs
from stages.common.locks import hold
from stages.common.paths import DATA, MODEL, SOURCES
from stages.params.file import read_params
from stages.planning.early_checks import check_context, check_ids


@stage
def main() -> None:
    """Split, tokenise and pack data/sources into data/corpus, as params.yaml has it under `corpus`."""
    params = read_params()
    hold(DATA / "corpus")
    config = load_config(MODEL)
    check_context(config, params)
    sources, tokens, benchmarks = corpus_inputs(params)
    writers = writers_of({name: SOURCES / f"{name}.parquet" for name in GENERATED if name in sources})
    sources, words = in_parts(sources, params.sample.dialogues.parts)
    calibration, heldout = build_corpus(sources, tokens, benchmarks, params.corpus)
    for split in (calibration, heldout):
        ids = (row.input_ids for row in split.sequences)
        check_ids(ids, text_config(config).vocab_size, load_tokenizer(MODEL), str(MODEL))
    for name, split in (("calibration", calibration), ("heldout", heldout)):
        path = DATA / "corpus" / f"{name}.parquet"
        told = ({"words": words} if words else {}) | writers
        write_sequences(path, split.sequences, split.metadata(params.corpus) | told)
    refused = sum(c.refused for split in (calibration, heldout) for c in split.counts.values())
    dropped = sum(c.overlap_benchmarks + c.overlap_heldout for c in calibration.counts.values())
    written = sum(len(sources[name]) for name in words)
    for name, marks in words.items():
        click.echo(
            f"corpus: {name}: {len(sources[name]) / written:.0%} of the dialogues, about {', '.join(marks)}"
        )
    summary(
        "corpus",
        f"{len(calibration.sequences)} calibration and {len(heldout.sequences)} held-out sequences of "
        f"{params.corpus.sequence_length} tokens; {dropped} documents dropped for overlap"
        + (f", {refused} conversations that the chat template refuses" if refused else ""),
    )


if __name__ == "__main__":
    main()
