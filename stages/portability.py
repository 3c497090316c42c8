"""Tool: compare the exported GGUF file, as llama.cpp runs it, with the checkpoint, as transformers does."""

import math
from pathlib import Path

import click
import torch
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.gguf.llama_cpp import Passage, read_passages
from secateurs.progress import progress
from stages.common.artifacts import read_sequences
from stages.common.checkpoints import load_config, load_model, load_tokenizer
from stages.common.console import stage, summary
from stages.common.paths import HELDOUT

# Of the perplexities: what half precision and another order of additions may make.
TOLERANCE = 0.01
# Of a passage: as many as take seconds, because llama.cpp's server answers with the whole vocabulary.
POSITIONS = 32


@stage
@click.option("--python", type=click.Path(path_type=Path), required=True, help="One with xllamacpp.")
@click.option("--checkpoint", type=click.Path(path_type=Path), default=Path("data/pruned"), show_default=True)
@click.option(
    "--gguf", type=click.Path(path_type=Path), default=Path("data/export/model.gguf"), show_default=True
)
def main(python: Path, checkpoint: Path, gguf: Path) -> None:
    """Score tokens of one held-out passage per domain both ways; perplexities must agree within 1%."""
    tokenizer = load_tokenizer(checkpoint)
    first = {row.domain: row.input_ids for row in reversed(read_sequences(HELDOUT))}
    texts = [str(tokenizer.decode(list(ids), skip_special_tokens=True)) for ids in first.values()]
    vocabulary = load_config(checkpoint).vocab_size
    version, theirs = read_passages(python, gguf, texts, vocabulary, POSITIONS)
    model = load_model(checkpoint, "float32")
    ours = [
        _passage(model, list(tokenizer(text)["input_ids"])) for text in progress(texts, "passages", "passage")
    ]
    for text, one, other in zip(texts, ours, theirs, strict=True):
        if one.ids != other.ids:
            raise InputError(f"{gguf}: llama.cpp tokenises otherwise than transformers: {text[:60]!r}...")
    expected, found = _perplexity(ours, theirs), _perplexity(theirs, theirs)
    compared = f"perplexity {expected:.4f} by transformers, {found:.4f} by llama.cpp"
    if not abs(found / expected - 1) <= TOLERANCE:
        raise InputError(f"{gguf}: {compared}: more than {TOLERANCE:.0%} apart")
    summary(
        "portability",
        f"{compared} (xllamacpp {version}), {found / expected - 1:+.3%}, on {len(texts)} passages "
        "that both tokenise alike",
    )


@torch.no_grad()
def _passage(model: PreTrainedModel, ids: list[int]) -> Passage:
    tokens = torch.tensor([ids])
    logits = model(tokens).logits[0, :-1].double()
    losses = torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="none").tolist()
    return Passage(ids, dict(enumerate(losses, 1)))


def _perplexity(passages: list[Passage], asked: list[Passage]) -> float:
    """Of the tokens whose loss llama.cpp was asked for; transformers gives that of all."""
    losses = [one.losses[at] for one, other in zip(passages, asked, strict=True) for at in other.losses]
    return math.exp(math.fsum(losses) / len(losses))


if __name__ == "__main__":
    main()
