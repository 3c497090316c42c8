"""The GGUF file, read back by transformers' own GGUF reader and by gguf's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from secateurs.checkpoints import gguf_reading
from secateurs.checkpoints.dense import load_dense
from secateurs.checkpoints.gguf_pre_tokenizers import RULES
from secateurs.checkpoints.saving import save_model
from secateurs.choose.weight_bytes import weight_bytes
from secateurs.errors import InputError, SettingError
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.gguf.converter import PROGRAM, find_converter
from secateurs.gguf.gguf_file import Target, write_gguf
from secateurs.gguf.tokenizer_metadata import write_tokenizer
from secateurs.kinds.sites import all_kept_masks, cut, finish
from secateurs.vocabulary.choose import trim_vocabulary
from secateurs.vocabulary.pieces import read_pieces
from secateurs.vocabulary.ranking import kept_tokens, removal_order
from tests.families.test_families import half_masks, tiny, uneven_masks
from tests.gguf.files import llama_file, twin_checkpoint
from tests.kinds.test_experts import half, mixture
from tests.project import ROOT, path_model, run_make
from tests.tiny import make_tiny_tokenizer

TEXT = "The quick brown fox's 123 jumps, over the lazy dog:\n\n  twice in 2024!  And again it jumps over it."
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
QWEN2_WORDS = RULES["qwen2"][0]
CONVERTER = ROOT / ".llama/converter"
NEEDS_CONVERTER = pytest.mark.skipif(
    not (CONVERTER / PROGRAM).is_file(), reason="`make test` puts llama.cpp's converter in .llama/converter"
)


def trained_tokenizer(
    words: str | None = None, texts: Sequence[str] = (TEXT,) * 4, size: int = 300
) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` tokens, learnt from texts, cut like GPT-2's or by the pattern `words`."""
    tokenizer = Tokenizer(models.BPE())
    if words is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut_words = pre_tokenizers.Split(Regex(words), behavior="isolated")
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut_words, spell])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@NEEDS_CONVERTER
def test_a_trimmed_vocabulary_is_written_whole(tmp_path: Path) -> None:
    tokenizer = trained_tokenizer(QWEN2_WORDS)
    model = tiny("qwen2", vocab_size=320)
    pieces = read_pieces(tokenizer, 320)
    order = removal_order(pieces, {index: float(index) for index in pieces.tokens})
    trimmed = trim_vocabulary(model, tokenizer, kept_tokens(pieces, order, 272, multiple=16))
    save_model(model, tmp_path)
    trimmed.save_pretrained(tmp_path)
    write_gguf(tmp_path, trimmed, Target(tmp_path / "model.gguf", "f32", "tiny"), CONVERTER)
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    assert len(trimmed) == model.config.vocab_size == 272
    # transformers' class for this family adds an end token of its own.
    assert trimmed.get_vocab().items() <= read.get_vocab().items()
    assert read(TEXT)["input_ids"] == trimmed(TEXT)["input_ids"] != tokenizer(TEXT)["input_ids"]
    tensors = {one.name: one.data.shape for one in GGUFReader(tmp_path / "model.gguf").tensors}
    assert tensors["token_embd.weight"][0] == 272


@NEEDS_CONVERTER
@pytest.mark.parametrize(("family", "architecture"), [("qwen3_moe", "qwen3moe"), ("olmoe", "olmoe")])
def test_a_mixture_with_fewer_experts_is_written_whole(
    family: str, architecture: str, tmp_path: Path
) -> None:
    # As llama.cpp weighs experts in these architectures.
    model = open_experts(mixture(family, vocab_size=320, norm_topk_prob=family == "qwen3_moe"))
    masks = half(model)
    cut(model, masks)
    finish(close_experts(model), masks)
    save_model(model, tmp_path)
    trained_tokenizer().save_pretrained(tmp_path)
    found, path = written(tmp_path)
    assert (found, fields(path)[f"{found}.expert_count"]) == (architecture, 4)
    tensors = {one.name: torch.tensor(one.data) for one in GGUFReader(path).tensors}
    block = model.model.layers[1].mlp
    assert torch.equal(tensors["blk.1.ffn_gate_inp.weight"], block.gate.weight)
    assert torch.equal(tensors["blk.1.ffn_down_exps.weight"], block.experts.down_proj)


@NEEDS_CONVERTER
@pytest.mark.parametrize(
    ("family", "changes"),
    [("qwen3_moe", {"norm_topk_prob": True}), ("qwen2_moe", {"norm_topk_prob": False}), ("glm4_moe", {})],
)
def test_a_mixtures_file_takes_the_bytes_that_a_budget_counts(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    # Routers and what corrects them stay in 32 bits.
    model = open_experts(mixture(family, vocab_size=320, **changes))
    masks = half(model)
    cut(model, masks)
    finish(close_experts(model), masks)
    save_model(model, tmp_path)
    trained_tokenizer().save_pretrained(tmp_path)
    for precision in ("q8_0", "q4_0"):
        _, path = written(tmp_path, precision)
        held = sum(tensor.n_bytes for tensor in GGUFReader(path).tensors)
        assert held == weight_bytes(model, precision)


def checkpoint(
    directory: Path, family: str, masks: dict[str, torch.Tensor] | None = None, **changes: Any
) -> Path:
    """A tiny random model with a tokenizer, cut by masks."""
    model = tiny(family, **{"vocab_size": 320} | changes)
    cut(model, all_kept_masks(model) | (masks or {}))
    save_model(model, directory)
    trained_tokenizer(QWEN2_WORDS if family == "qwen2" else None).save_pretrained(directory)
    return directory


def written(directory: Path, precision: str = "f32") -> tuple[str, Path]:
    target = Target(directory / "model.gguf", precision, "tiny")
    architecture, _ = write_gguf(directory, AutoTokenizer.from_pretrained(directory), target, CONVERTER)
    return architecture, target.path


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


def load(directory: Path, **options: Any) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True, **options).eval()


def test_the_model_stage_parses_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = checkpoint(tmp_path / "model", "llama")
    path = llama_file(directory)
    parsed = []

    class Counted(gguf_reading.Reader):
        def __init__(self, *arguments: Any) -> None:
            parsed.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(gguf_reading, "Reader", Counted)
    model, _ = load_dense(path_model(path))
    assert len(parsed) == 1
    assert gguf.GGUFReader is GGUFReader
    expected = load(directory).state_dict()
    assert all(torch.allclose(weight, expected[name]) for name, weight in model.state_dict().items())


@NEEDS_CONVERTER
@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"attention_bias": False, "mlp_bias": False}),
        ("llama", {"attention_bias": False, "mlp_bias": False, "tie_word_embeddings": False}),
        ("qwen2", {}),
    ],
)
@torch.no_grad()
def test_transformers_reads_the_same_model_and_tokenizer_back(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path, family, half_masks(tiny(family), ("mlp",)), **changes)
    architecture, path = written(directory)
    assert architecture == family
    ids = torch.arange(2, 30)[None]
    again = load(directory, gguf_file=path.name, dtype=torch.float32)
    assert torch.allclose(again(ids).logits, load(directory)(ids).logits, atol=1e-5)
    read = fields(path)
    assert read[f"{family}.feed_forward_length"] == 12
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokens = read["tokenizer.ggml.tokens"]
    assert [tokens[index] for index in tokenizer(TEXT)["input_ids"]] == tokenizer.tokenize(TEXT)
    assert len(tokens) == 320
    assert read["tokenizer.ggml.pre"] == ("qwen2" if family == "qwen2" else "gpt-2")


def test_sizes_that_differ_are_written_layer_by_layer(tmp_path: Path) -> None:
    architecture, path = written(checkpoint(tmp_path, "llama", uneven_masks(tiny("llama"))))
    assert architecture == "deci"
    assert fields(path)["deci.feed_forward_length"] == [24, 12]


def test_heads_that_stock_qwen2_cannot_take_are_written_layer_by_layer(tmp_path: Path) -> None:
    architecture, path = written(checkpoint(tmp_path, "qwen2", half_masks(tiny("qwen2"), ("query_heads",))))
    assert architecture == "deci"
    read = fields(path)
    assert (read["deci.attention.head_count"], read["deci.attention.key_length"]) == (2, 8)


def test_scaled_angles_become_divisors_of_the_frequencies(tmp_path: Path) -> None:
    path = llama_file(checkpoint(tmp_path, "llama", rope_parameters=LLAMA3))
    model = load(tmp_path)
    plain = 1e4 ** -(torch.arange(0, 8, 2) / 8)
    (factors,) = (one.data for one in GGUFReader(path).tensors if one.name == "rope_freqs.weight")
    assert torch.allclose(plain / torch.tensor(factors), model.model.rotary_emb.inv_freq)


# By ggml's numbers of the types; below 8 bits the embeddings stay at 8.
KINDS = [
    ("f16", 1, 1),
    ("bf16", 30, 30),
    ("q8_0", 8, 8),
    ("q5_1", 7, 8),
    ("q5_0", 6, 8),
    ("q4_1", 3, 8),
    ("q4_0", 2, 8),
]


@pytest.mark.parametrize(("precision", "kind", "vocabulary"), KINDS)
def test_matrices_are_written_in_the_precision_asked_for(
    precision: str, kind: int, vocabulary: int, tmp_path: Path
) -> None:
    path = llama_file(checkpoint(tmp_path, "llama"), precision)
    kinds = {tensor.name: int(tensor.tensor_type) for tensor in GGUFReader(path).tensors}
    assert kinds["blk.0.attn_q.weight"] == kind
    assert kinds["token_embd.weight"] == vocabulary
    assert kinds["blk.0.attn_norm.weight"] == 0


# Relative to the size of a matrix: what uniform steps of 1/254, 1/31 and 1/15 of a block's range lead to.
STEPS = [("q8_0", 0.01), ("q5_1", 0.05), ("q4_1", 0.1), ("q4_0", 0.12)]


@pytest.mark.parametrize(("precision", "error"), STEPS)
def test_fewer_bits_keep_the_weights_to_within_their_steps(
    precision: str, error: float, tmp_path: Path
) -> None:
    path = llama_file(checkpoint(tmp_path, "llama", attention_bias=False, mlp_bias=False), precision)
    dense, again = load(tmp_path), load(tmp_path, gguf_file=path.name, dtype=torch.float32)
    found = again.state_dict()
    for name, weight in dense.state_dict().items():
        assert float((weight - found[name]).norm()) <= error * float(weight.norm()), name


YARN: dict[str, Any] = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
# Of layers of several sizes: the family, its config, and the message.
NO_PLACE: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3", {}, "model_type: qwen3: its layers differ in size, or have fewer heads than its GGUF"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act: gelu: llama.cpp computes silu here"),
    ("llama", {"rope_parameters": YARN}, "rope_type: yarn: not written layer by layer"),
    ("llama", {"rope_parameters": PARTIAL}, "partial_rotary_factor: 0.5: angles that turn a part of each"),
    ("mistral", {"sliding_window": 64}, "sliding_window: 64: has no place in this GGUF architecture"),
]


@pytest.mark.parametrize(("family", "changes", "message"), NO_PLACE)
def test_what_has_no_place_layer_by_layer_is_refused(
    family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path, family, uneven_masks(tiny(family)), **changes)
    with pytest.raises(InputError, match=message):
        written(directory)


# Of layers of one size, which llama.cpp's converter writes without a word.
DROPPED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"hidden_act": "gelu"}, "hidden_act: gelu: has no place in llama.cpp's architecture llama"),
    ("mistral", {"sliding_window": 64}, "sliding_window: 64: has no place in llama.cpp's architecture llama"),
    (
        "gemma2",
        {"query_pre_attn_scalar": 5},
        "query_pre_attn_scalar: 5: has no place in llama.cpp's architecture gemma2",
    ),
    (
        "gemma3_text",
        {"query_pre_attn_scalar": 4},
        r"layer_types: \['sliding_attention', 'full_attention'\]: has",
    ),
    ("smollm3", {"no_rope_layers": [1, 0]}, r"no_rope_layers: \[1, 0\]: has no place in llama.cpp's"),
]


@NEEDS_CONVERTER
@pytest.mark.parametrize(("family", "changes", "message"), DROPPED)
def test_what_the_converter_drops_is_refused(
    family: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    directory = checkpoint(tmp_path, family, **changes)
    with pytest.raises(InputError, match=message):
        written(directory)
    assert not list(tmp_path.glob(".*.tmp"))


# A small mixture, whose config has no numbers of experts by default.
DOTS1 = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1}
DOTS1 |= {"n_group": 1, "topk_group": 1}
# Of twins: the model_type, its config, and the message.
DROPPED_OF_OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob: False: has no place in llama.cpp's"),
    (
        "deepseek_v2",
        {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
        "topk_method: group_limited_greedy: has no place in llama.cpp's architecture deepseek2",
    ),
    (
        "phi",
        {},
        r"ffn_down\.weight: has \d+ channels, but llama.cpp's converter writes feed_forward_length: 256",
    ),
    ("phi3", {"sliding_window": 6}, "sliding_window: .: has no place in llama.cpp's architecture phi3"),
    ("deepseek_v3", {"num_experts_per_tok": 2}, "scoring_func: not there; llama.cpp's converter needs it"),
    ("dots1", DOTS1, "scoring_func: not there; llama.cpp's converter needs it: sigmoid"),
]


@NEEDS_CONVERTER
@pytest.mark.parametrize(("model_type", "changes", "message"), DROPPED_OF_OTHERS)
def test_what_the_converter_writes_otherwise_is_refused(
    model_type: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    twin_checkpoint(tmp_path, model_type, **changes)
    trained_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        written(tmp_path)


# Of twins: the model_type, its config, and the message. No converter is there, and none is asked.
KNOWN_BEFORE: list[tuple[str, dict[str, Any], str]] = [
    ("exaone4", {}, r"sliding_window: \d+: has a place in llama.cpp's architecture exaone4 only in three of"),
    ("granitemoehybrid", {"layer_types": ["mamba", "attention"]}, "model_type: granitemoehybrid: llama"),
    ("lfm2", {"layer_types": ["conv", "conv"]}, "layer_types: all are conv: llama.cpp runs lfm2 only with"),
    (
        "lfm2_moe",
        {"layer_types": ["full_attention"] * 2},
        "layer_types: all are full_attention: llama.cpp runs",
    ),
]


@pytest.mark.parametrize(("model_type", "changes", "message"), KNOWN_BEFORE)
def test_what_llama_cpp_does_not_run_is_refused_before_the_converter(
    model_type: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    twin_checkpoint(tmp_path, model_type, **changes)
    tokenizer = trained_tokenizer()
    with pytest.raises(InputError, match=message):
        write_gguf(tmp_path, tokenizer, Target(tmp_path / "model.gguf", "f32", "tiny"), tmp_path / "nowhere")


def test_without_the_converter_the_message_says_how_to_get_it(tmp_path: Path) -> None:
    message = r"^export\.converter: .*: no convert_hf_to_gguf\.py in it; `make export` puts it there, or give"
    with pytest.raises(SettingError, match=message):
        find_converter(str(tmp_path))


@pytest.mark.parametrize(("precision", "form", "size"), [("f16", "f16", 70_000.0), ("q4_0", "q4_0", 3e6)])
def test_a_weight_too_large_for_its_format_is_refused(
    precision: str, form: str, size: float, tmp_path: Path
) -> None:
    model = tiny("llama", vocab_size=320, hidden_size=32)
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = size
    save_model(model, tmp_path)
    trained_tokenizer().save_pretrained(tmp_path)
    message = (
        rf"^export\.precision: {precision}: blk\.1\.ffn_up\.weight has weights that are too large for {form} "
        r"and would be infinite; set export\.precision: bf16 or f32$"
    )
    with pytest.raises(SettingError, match=message):
        llama_file(tmp_path, precision)
    assert llama_file(tmp_path, "bf16")


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "llama")
    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="pre_tokenizer, normalizer, ignore_merges: Whitespace: no"):
        write_tokenizer(GGUFWriter(directory / "model.gguf", "llama"), tokenizer, 320)


def test_make_export_runs_its_own_pipeline() -> None:
    commands = "python -m stages.enable exporting\ndvc repro stages/exporting/dvc.yaml\n"
    assert commands in run_make("export", "--dry-run")
    assert (ROOT / "stages/exporting/pipeline.yaml").exists()
