"""Stage: which kinds go, and how much of each, where params.yaml leaves that to trials."""

from dataclasses import asdict

import click

from secateurs.files.json_file import write_json
from secateurs.settings.pruning import AUTO
from secateurs.settings.sources import DIALOGUE_DOMAIN, is_dialogues
from stages.common.artifacts import read_sequences
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import CALIBRATION, KINDS, MODEL
from stages.params.file import read_params
from stages.params.method_settings import method_settings


@stage
def main() -> None:
    """Write data/kinds.json: what takes the place of `prune.sites: auto`, and what was measured for it."""
    params = read_params()
    auto = params.prune.auto
    hold(KINDS)
    if params.prune.sites != AUTO:
        write_json(KINDS, {"sites": None})
        summary("kinds", "nothing to choose, because prune.sites names them")
        return
    # Large libraries take seconds to import.
    from secateurs.kind_trials import choose_kinds
    from secateurs.text.calibration import by_domain
    from secateurs.text.portions import left_out_documents
    from secateurs.vocabulary.ranking import count_tokens
    from stages.common.calibration_words import words_by_split
    from stages.common.checkpoints import load_model, load_tokenizer

    model, tokenizer = load_model(MODEL, params.compute.dtype), load_tokenizer(MODEL)
    rows = read_sequences(CALIBRATION)
    text = by_domain(rows)
    judged = {
        (DIALOGUE_DOMAIN if is_dialogues(domain) else domain, document)
        for domain, document in left_out_documents(rows, text, auto.left_out)
    }
    # What the trials are judged on must not have been counted.
    words, _ = words_by_split(params, judged)
    counts = {domain: count_tokens(tokenizer, texts) for domain, texts in words.items()}
    chosen = choose_kinds(
        model,
        tokenizer,
        text,
        method_settings(params),
        counts=counts,
        say=lambda line: click.echo(f"kinds: {line}", err=True),
    )
    write_json(KINDS, asdict(chosen))
    summary("kinds", chosen.said())


if __name__ == "__main__":
    main()
