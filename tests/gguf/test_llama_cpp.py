"""What llama.cpp says of exported models, against transformers: cut ones, of every compared family."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from secateurs.gguf.converter import COMPARED
from secateurs.text.documents import Sequence
from stages import portability
from stages.common.artifacts import write_sequences
from tests.families.test_families import half_masks, tiny, uneven_masks
from tests.gguf.files import twin_checkpoint
from tests.project import invoke
from tests.test_export import DOTS1, LLAMA3, TEXT, checkpoint, trained_tokenizer, written

LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
LONGER: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 1e4} | {
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
# By family: what the sizes must be for llama.cpp, and the kinds of its architecture.
SLIDING = ["sliding_attention"]
SHAPE: dict[str, Any] = {"hidden_size": 64, "head_dim": 16}
# Of this family the converter leaves out the rows that no token has, so here each has one.
GEMMA3 = SHAPE | {"query_pre_attn_scalar": 16, "layer_types": SLIDING * 2, "vocab_size": 300}
PORTABLE: list[tuple[str, str, dict[str, Any], str]] = [
    ("llama", "mlp", SHAPE, "llama"),
    ("llama", "all", SHAPE | {"rope_parameters": LLAMA3}, "llama"),
    ("llama", "all", SHAPE | {"rope_parameters": LINEAR}, "llama"),
    ("llama", "all", SHAPE | {"rope_parameters": LONGER}, "llama"),
    ("llama", "unequal", SHAPE, "deci"),
    ("llama", "attention", SHAPE, "llama"),
    ("llama", "one group", SHAPE, "deci"),
    ("qwen2", "mlp", SHAPE | {"num_attention_heads": 4, "num_key_value_heads": 2}, "qwen2"),
    ("qwen2", "all", {"hidden_size": 64, "rope_parameters": LINEAR}, "qwen2"),
    ("qwen2", "all", {"hidden_size": 64, "rope_parameters": LLAMA3}, "deci"),
    ("qwen2", "unequal", SHAPE, "deci"),
    ("qwen2", "query_heads", SHAPE, "deci"),
    ("mistral", "mlp", SHAPE | {"sliding_window": None}, "llama"),
    ("mistral", "unequal", SHAPE | {"sliding_window": None}, "deci"),
    ("qwen3", "mlp", SHAPE | {"attention_bias": False}, "qwen3"),
    ("gemma2", "mlp", SHAPE | {"query_pre_attn_scalar": 16}, "gemma2"),
    ("gemma3_text", "mlp", GEMMA3, "gemma3"),
    ("olmo2", "mlp", {}, "olmo2"),
    ("smollm3", "mlp", SHAPE | {"no_rope_layers": None}, "smollm3"),
]
# Of twins: the model_type, what its config says otherwise than by default, and the architecture.
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("arcee", {}, "arcee"),
    ("cohere", {}, "command-r"),
    (
        "deepseek_v2",
        {"topk_method": "greedy", "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
         "first_k_dense_replace": 1},
        "deepseek2",
    ),
    (
        "deepseek_v3",
        {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "scoring_func": "sigmoid"},
        "deepseek2",
    ),
    ("dots1", DOTS1 | {"scoring_func": "sigmoid"}, "dots1"),
    ("ernie4_5", {}, "ernie4_5"),
    ("exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}, "exaone4"),
    ("exaone4", {"num_hidden_layers": 64}, "exaone4"),
    ("gemma", {}, "gemma"),
    ("glm", {}, "chatglm"),
    ("glm4", {}, "glm4"),
    ("glm4_moe", {"first_k_dense_replace": 1}, "glm4moe"),
    ("gpt_neox", {}, "gptneox"),
    ("gpt_oss", {}, "gpt-oss"),
    ("granite", {}, "granite"),
    ("granitemoe", {}, "granitemoe"),
    ("lfm2", {"layer_types": ["conv", "full_attention"]}, "lfm2"),
    ("lfm2_moe", {"layer_types": ["conv", "full_attention"]}, "lfm2moe"),
    ("mixtral", {"sliding_window": None}, "llama"),
    ("olmo", {}, "olmo"),
    ("olmo3", {}, "olmo2"),
    ("olmoe", {}, "olmoe"),
    ("phi3", {}, "phi3"),
    ("qwen2_moe", {}, "qwen2moe"),
    ("qwen3_moe", {"norm_topk_prob": True}, "qwen3moe"),
    ("starcoder2", {}, "starcoder2"),
]  # fmt: skip


def test_the_families_that_were_compared_are_those_of_the_page() -> None:
    assert {family for family, *_ in [*PORTABLE, *OTHERS]} == COMPARED


@pytest.fixture
def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Export what is in tmp_path, as this architecture, and score TEXT by llama.cpp and by transformers."""

    def compared(architecture: str) -> None:
        found, path = written(tmp_path)
        assert found == architecture
        ids = AutoTokenizer.from_pretrained(tmp_path)(TEXT)["input_ids"]
        write_sequences(tmp_path / "heldout.parquet", [Sequence("d", ("d",), tuple(ids))], {})
        monkeypatch.setattr(portability, "HELDOUT", tmp_path / "heldout.parquet")
        python = ("--python", os.environ["LLAMA_CPP_PYTHON"])
        invoke(portability.main, *python, "--checkpoint", str(tmp_path), "--gguf", str(path))

    return compared


@pytest.mark.portability
@pytest.mark.parametrize(("family", "choice", "changes", "architecture"), PORTABLE)
def test_llama_cpp_says_what_transformers_says(
    family: str,
    choice: str,
    changes: dict[str, Any],
    architecture: str,
    tmp_path: Path,
    compare: Callable[[str], None],
) -> None:
    masks = {
        "all": lambda: {},
        "mlp": lambda: half_masks(tiny(family, **changes), ("mlp",)),
        "unequal": lambda: uneven_masks(tiny(family)),
        "attention": lambda: half_masks(tiny(family), ("mlp", "attention")),
        "query_heads": lambda: half_masks(tiny(family), ("mlp", "query_heads")),
        "one group": lambda: {f"{layer}/attention": torch.arange(4) != layer for layer in range(2)},
    }[choice]()
    checkpoint(tmp_path, family, masks, **changes)
    compare(architecture)


@pytest.mark.portability
@pytest.mark.parametrize(("model_type", "changes", "architecture"), OTHERS)
def test_llama_cpp_says_of_twins_what_transformers_says(
    model_type: str,
    changes: dict[str, Any],
    architecture: str,
    tmp_path: Path,
    compare: Callable[[str], None],
) -> None:
    twin_checkpoint(tmp_path, model_type, **changes)
    trained_tokenizer().save_pretrained(tmp_path)
    compare(architecture)
