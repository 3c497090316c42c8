"""A tiny random-weight model with its own tokenizer, built from code: nothing is downloaded."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from stages.checkpoints import proof
from tests.fresh import FreshProcesses

BOS, EOS = "<s>", "</s>"

# How long an example takes depends on what else the machine does.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: code under test collects often, half a second each time.

    So does Python itself. What tests make is collected as ever.
    """
    gc.collect()
    gc.freeze()


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: one token a byte, plus BOS and EOS (258 in all)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {BOS: 0, EOS: 1, **{symbol: index + 2 for index, symbol in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)


def make_tiny_model(**changes: Any) -> LlamaForCausalLM:
    """A random Llama in float32, evaluation mode; `changes` are fields of its LlamaConfig, or `seed`."""
    torch.manual_seed(changes.pop("seed", 0))
    fields: dict[str, Any] = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        # The stock 0.02 leaves so small a model nearly linear; wider weights make its channels differ.
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(LlamaConfig(**{**fields, **changes})).eval()


@pytest.fixture
def tiny_model() -> Callable[..., LlamaForCausalLM]:
    return make_tiny_model


@pytest.fixture(scope="session")
def dense_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete checkpoint of the tiny model, as data/model would hold it."""
    directory = tmp_path_factory.mktemp("dense")
    make_tiny_model().save_pretrained(directory)
    make_tiny_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def fresh_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshProcesses]:
    processes = FreshProcesses(tmp_path_factory.mktemp("fresh"), os.environ)
    yield processes
    processes.end()


@pytest.fixture
def quick_proofs(fresh_processes: FreshProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are proved in processes that fork from one with the libraries imported."""
    monkeypatch.setattr(proof, "subprocess", fresh_processes)
