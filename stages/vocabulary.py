"""Stage: which tokens of the vocabulary stay, where params.yaml asks for fewer."""

from transformers import GenerationConfig

from secateurs.files.json_file import write_json
from secateurs.settings.sources import GENERATED
from secateurs.text.corpus import split_documents
from secateurs.text.words import words_of
from secateurs.vocabulary.choose import choose_tokens
from secateurs.vocabulary.ranking import Scripts, count_tokens
from secateurs.vocabulary.trimming import new_ids, trim_tokenizer
from stages.common.artifacts import read_documents
from stages.common.checkpoints import load_config, load_tokenizer
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import MODEL, SOURCES, VOCABULARY
from stages.params.file import Params, read_params


@stage
def main() -> None:
    """Write data/vocabulary.json: the tokens that stay, as params.yaml has it under `prune.vocabulary`.

    Tokens are counted over the calibration documents of every domain that `mixture` counts, so that held-out
    text says what the others' going costs.
    """
    params = read_params()
    hold(VOCABULARY)
    wanted = params.prune.vocabulary
    if not wanted.rows:
        write_json(VOCABULARY, {"kept": None})
        summary("vocabulary", "all tokens stay, because prune.vocabulary.rows is 0")
        return
    config, tokenizer = load_config(MODEL), load_tokenizer(MODEL)
    named = (MODEL / "generation_config.json").is_file()
    configs = [config, *([GenerationConfig.from_pretrained(MODEL, local_files_only=True)] if named else [])]
    calibration, heldout = _texts(params)
    counts = {domain: count_tokens(tokenizer, texts) for domain, texts in calibration.items()}
    scripts = Scripts(tuple(wanted.keep), tuple(wanted.leave))
    kept = choose_tokens(tokenizer, configs, counts, params.mixture, wanted.rows, scripts)
    rows = config.get_text_config().vocab_size
    trimmed = trim_tokenizer(tokenizer, new_ids(tokenizer, kept, rows))
    lengths = {
        domain: [count_tokens(one, texts).total() for one in (tokenizer, trimmed)]
        for domain, texts in heldout.items()
    }
    write_json(VOCABULARY, {"rows": rows, "kept": kept, "heldout_tokens": lengths})
    dense, now = (sum(column) for column in zip(*lengths.values(), strict=True))
    summary(
        "vocabulary",
        f"{len(kept):,} of {rows:,} rows stay; held-out text has {now / dense:.4f} times as many tokens",
    )


def _texts(params: Params) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is calibrated on, and what is held out, of each domain that has text."""
    calibration, heldout = {}, {}
    for domain in [*params.domains, *GENERATED]:
        read, left = split_documents(domain, read_documents(SOURCES / f"{domain}.parquet"), params.corpus)
        if read and params.mixture[domain]:
            calibration[domain] = words_of(read)
        if left:
            heldout[domain] = words_of(left)
    return calibration, heldout


if __name__ == "__main__":
    main()
