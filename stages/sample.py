"""Stage: text sampled from the dense model, for calibration only."""

from secateurs.devices.placement import place
from secateurs.settings.sources import DIALOGUE_DOMAIN, GENERATED
from secateurs.text.generated import generate
from stages.common import artifacts
from stages.common.checkpoints import load_config, load_model, load_tokenizer
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import MODEL, SOURCES
from stages.params.file import read_params
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
    found = {}
    if wanted:
        model = place(load_model(MODEL, params.compute.dtype), params.compute.device)
        found = generate(model, load_tokenizer(MODEL), params.sample, wanted, MODEL)
    for domain, output in outputs.items():
        artifacts.write_documents(output, found.get(domain, []))
    told = ", ".join(f"{len(documents)} documents in {outputs[name]}" for name, documents in found.items())
    nothing = f"nothing, because {' and '.join(f'mixture.{domain}' for domain in GENERATED)} are 0"
    summary("sample", told or nothing)


if __name__ == "__main__":
    main()
