"""Stage: text sampled from the dense model, for calibration only."""

from stages.checkpoints.devices import place
from stages.checkpoints.loading import load_model, load_tokenizer
from stages.common import artifacts
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.params import SELF_DOMAIN, read_params
from stages.common.paths import MODEL, SOURCES
from stages.text.sampling import sample_documents

OUTPUT = SOURCES / f"{SELF_DOMAIN}.parquet"


@stage
def main() -> None:
    """Sample text from data/model, as params.yaml has it under `sample`, into data/sources/self.parquet.

    Where that text does not count (`mixture.self: 0`), none is made.
    """
    params = read_params()
    hold(OUTPUT)
    if not params.mixture[SELF_DOMAIN]:
        artifacts.write_documents(OUTPUT, [])
        summary("sample", f"nothing, because mixture.{SELF_DOMAIN} is 0")
        return
    model = place(load_model(MODEL, params.compute.dtype), params.compute.device)
    found = sample_documents(model, load_tokenizer(MODEL), params.sample, MODEL)
    artifacts.write_documents(OUTPUT, found)
    summary("sample", f"{len(found)} documents of {params.sample.tokens} tokens on {model.device.type}")


if __name__ == "__main__":
    main()
