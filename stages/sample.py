"""Stage: text sampled from the dense model, for calibration only."""

from transformers import PreTrainedTokenizerBase

from secateurs.settings.sources import DIALOGUE_DOMAIN, GENERATED
from secateurs.text.conversations import check_conversations, renderer
from secateurs.text.generated import generate
from stages.common import artifacts
from stages.common.checkpoints import load_config, load_tokenizer
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.own_writer import own_writer, written_by
from stages.common.paths import MODEL, SOURCES
from stages.params.file import Params, read_params
from stages.planning.early_checks import check_dialogues


@stage
def main() -> None:
    """Sample text from data/model, as params.yaml has it under `sample`, into data/sources.

    Texts go to self.parquet, questions with answers to dialogues.parquet. Where either does not count
    (`mixture.self: 0`, `mixture.dialogues: 0`), none of it is made.
    """
    params = read_params()
    outputs = {domain: SOURCES / f"{domain}.parquet" for domain in GENERATED}
    for output in outputs.values():
        hold(output)
    wanted = [domain for domain in GENERATED if params.mixture[domain]]
    if DIALOGUE_DOMAIN in wanted:
        check_dialogues(load_config(MODEL), params)
    tokenizer, found = load_tokenizer(MODEL), {}
    _check_conversations(params, tokenizer)
    if wanted:
        with own_writer(params, params.sample.batch_size) as writer:
            found = generate(writer, tokenizer, params.sample, wanted, MODEL)
    for domain, output in outputs.items():
        artifacts.write_documents(output, found.get(domain, []), written_by(params, params.sample.seed))
    told = ", ".join(f"{len(documents)} documents in {outputs[name]}" for name, documents in found.items())
    nothing = f"nothing, because {' and '.join(f'mixture.{domain}' for domain in GENERATED)} are 0"
    summary("sample", told or nothing)


def _check_conversations(params: Params, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError where the chat template refuses a conversation of a domain, before text is sampled.

    DVC makes the domains before this stage, which does not depend on them: what it writes does not change
    with them. The corpus stage, which does, refuses the same.
    """
    for name, domain in params.domains.items():
        path = SOURCES / f"{name}.parquet"
        if path.exists():
            documents = artifacts.read_documents(path)
            check_conversations(name, documents, renderer(tokenizer), domain.refused == "drop")


if __name__ == "__main__":
    main()
