"""Stage: which tokens of the vocabulary stay, where params.yaml asks for fewer."""

from secateurs.files.json_file import write_json
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import MODEL, VOCABULARY
from stages.common.settled import settled_params
from stages.params.file import read_params


@stage
def main() -> None:
    """Write data/vocabulary.json: the tokens that stay, as params.yaml has it under `prune.vocabulary`.

    Tokens are counted over the calibration documents of every domain that `mixture` counts, so that held-out
    text says what the others' going costs.
    """
    params = settled_params(read_params())
    hold(VOCABULARY)
    wanted = params.prune.vocabulary
    if not wanted.rows:
        write_json(VOCABULARY, {"kept": None})
        summary("vocabulary", "all tokens stay, because prune.vocabulary.rows is 0")
        return
    # Large libraries take seconds to import.
    from transformers import GenerationConfig

    from secateurs.vocabulary.choose import rank_tokens
    from secateurs.vocabulary.ranking import Scripts, count_tokens
    from secateurs.vocabulary.trimming import new_ids, trim_tokenizer
    from stages.common.calibration_words import words_by_split
    from stages.common.checkpoints import load_config, load_tokenizer

    config, tokenizer = load_config(MODEL), load_tokenizer(MODEL)
    named = (MODEL / "generation_config.json").is_file()
    configs = [config, *([GenerationConfig.from_pretrained(MODEL, local_files_only=True)] if named else [])]
    calibration, heldout = words_by_split(params)
    counts = {domain: count_tokens(tokenizer, texts) for domain, texts in calibration.items()}
    scripts = Scripts(tuple(wanted.keep), tuple(wanted.leave))
    kept = rank_tokens(tokenizer, configs, counts, params.mixture, scripts).kept(wanted.rows)
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


if __name__ == "__main__":
    main()
