"""A target in parameters or bytes: what it comes to, that it is met, and what is said where it cannot be."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import LlamaConfig, LlamaForCausalLM

from secateurs.checkpoints.saving import save_model
from secateurs.choose.target import check_target, coarse_steps, decoder_share, reached_share, rounding
from secateurs.choose.weight_bytes import PRECISIONS, bound, weight_bytes
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import open_experts
from secateurs.pruner import prune_model
from secateurs.settings.method import settings_of
from secateurs.settings.pruning import Memory, Prune, Vocabulary
from secateurs.vocabulary.embedding_rows import cut_vocabulary
from tests.gguf.files import llama_file
from tests.kinds.test_experts import mixture
from tests.test_export import trained_tokenizer
from tests.test_prune import SMALL, tokens
from tests.tiny import make_tiny_model

Make = Callable[..., LlamaForCausalLM]
DENSE = Prune(sparsity=0.2, width_multiple=1)


def target(**given: object) -> Prune:
    return DENSE.changed(**{"sparsity": None, **given})


def test_a_share_is_taken_as_it_is(tiny_model: Make) -> None:
    assert decoder_share(tiny_model(), DENSE.changed(sparsity=0.3)) == 0.3


def test_parameters_of_the_whole_model_become_a_share_of_the_decoder(tiny_model: Make) -> None:
    model = tiny_model()
    budget = target(parameters=model.num_parameters() - 1000)
    assert decoder_share(model, budget) * decoder_parameters(model) == pytest.approx(1000)


def test_bytes_at_half_precision_are_twice_as_many_parameters(tiny_model: Make) -> None:
    model = tiny_model()
    aim = model.num_parameters() - 1000
    by_bytes = target(memory=Memory(bytes=2 * aim, precision="bfloat16"))
    assert decoder_share(model, by_bytes) == decoder_share(model, target(parameters=aim))


@pytest.mark.parametrize(("tied", "matrices"), [(True, 1), (False, 2)])
def test_rows_of_the_vocabulary_count_towards_a_target_of_the_whole_model(
    tiny_model: Make, tied: bool, matrices: int
) -> None:
    model = tiny_model(tie_word_embeddings=tied)
    gone = (258 - 192) * 32 * matrices
    fewer = DENSE.changed(vocabulary=Vocabulary(rows=192))
    aim = model.num_parameters() - gone - 1000
    for budget in (
        fewer.changed(sparsity=None, parameters=aim),
        fewer.changed(sparsity=None, memory=Memory(bytes=4 * aim, precision="float32")),
    ):
        assert decoder_share(model, budget) * decoder_parameters(model) == pytest.approx(1000)
    before = model.num_parameters()
    cut_vocabulary(model, {index: index for index in range(192)})
    assert before - model.num_parameters() == gone


def test_more_rows_than_there_are_are_refused(tiny_model: Make) -> None:
    with pytest.raises(InputError, match=r"prune.vocabulary.rows: 320: the model has 258; ask for fewer"):
        check_target(tiny_model(), DENSE.changed(vocabulary=Vocabulary(rows=320)))


def test_the_bytes_of_a_dtype_are_those_of_the_file(tiny_model: Make, tmp_path: Path) -> None:
    tiny_model().to(torch.bfloat16).save_pretrained(tmp_path)
    written = (tmp_path / "model.safetensors").stat().st_size
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert weight_bytes(tiny_model(), "bfloat16") == written - 8 - header


def test_four_bits_leave_embeddings_at_eight_and_norms_at_32(tiny_model: Make) -> None:
    model = tiny_model()
    embeddings, norms = 258 * 32, 7 * 32
    matrices = model.num_parameters() - embeddings - norms
    # Rows of down_proj are 48 weights, one block and a half: they stay in 32 bits.
    down = 3 * 32 * 48
    bits = 4.5 * (matrices - down) + 8.5 * embeddings + 32 * (norms + down)
    assert weight_bytes(model, "q4_0") == bits / 8


def test_params_name_the_same_precisions() -> None:
    named = Memory.model_json_schema()["properties"]["precision"]["enum"]
    assert named == list(PRECISIONS)


@pytest.mark.parametrize("widths", ["uniform", "per_layer"])
def test_what_is_left_is_no_more_than_was_asked_for(tiny_model: Make, widths: str) -> None:
    dense = tiny_model()
    aim = dense.num_parameters() - 4000
    budget = target(parameters=aim, widths=widths)
    left = prune_model(dense, tokens("news"), SMALL.changed(prune=budget)).model.num_parameters()
    # A step is a channel, uniformly one in each of the three layers.
    assert aim - 3 * 3 * 32 < left <= aim


# Hidden sizes and steps: whole blocks in all rows; rows of down_proj of any length; no row of whole blocks.
ROWS = [(64, 32, "q4_0"), (64, 1, "float32"), (64, 8, "q8_0"), (40, 8, "q4_0"), (40, 32, "q5_1")]


@pytest.mark.parametrize("widths", ["uniform", "per_layer"])
@pytest.mark.parametrize(("hidden", "multiple", "precision"), ROWS)
def test_the_weights_of_the_file_take_no_more_bytes_than_were_asked_for(
    hidden: int, multiple: int, precision: str, widths: str, tmp_path: Path
) -> None:
    dense = make_tiny_model(
        hidden_size=hidden,
        intermediate_size=384,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=320,
    )
    budget = target(memory=Memory(bytes=1, precision=precision), width_multiple=multiple, widths=widths)
    # Half of what may go at most.
    most = bound(dense, budget, precision).left(3 * 3 * hidden * 384 * 9 // 20)
    aim = min(most, weight_bytes(dense, precision) - 1)
    budget = budget.changed(memory=Memory(bytes=aim, precision=precision))
    pruned = prune_model(dense, tokens("news"), SMALL.changed(prune=budget)).model
    save_model(pruned, tmp_path)
    trained_tokenizer().save_pretrained(tmp_path)
    path = llama_file(tmp_path, {"float32": "f32"}.get(precision, precision))
    held = sum(tensor.n_bytes for tensor in GGUFReader(path).tensors)
    assert held == weight_bytes(pruned, precision) <= aim
    if multiple == 32 and widths == "uniform":
        # Of whole blocks the target is met by less than a step, 32 channels in each of the three layers.
        step = weight_bytes(dense, precision) - weight_bytes(narrower(dense), precision)
        assert aim - step < held


def narrower(dense: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model with 32 channels fewer in every layer."""
    return LlamaForCausalLM(LlamaConfig(**dense.config.to_dict() | {"intermediate_size": 352}))


def test_rows_that_no_block_fits_need_another_width_multiple(tiny_model: Make) -> None:
    dense = tiny_model(intermediate_size=384)
    budget = target(memory=Memory(bytes=weight_bytes(dense, "q4_0") * 9 // 10, precision="q4_0"), floor=0.5)
    message = (
        "; no target of bytes can be met with certainty; .*; rows that are no whole number of blocks of 32 "
        r"weights stay in 32 bits, which a prune\.width_multiple of 32 prevents in mlp$"
    )
    with pytest.raises(InputError, match=message):
        check_target(dense, budget)
    check_target(dense, budget.changed(width_multiple=32))


def test_the_rounds_follow_the_target(tiny_model: Make) -> None:
    dense = tiny_model()
    share = decoder_share(dense, target(parameters=dense.num_parameters() - 6000))
    by_share = prune_model(dense, tokens("news"), SMALL.changed(prune=DENSE.changed(sparsity=share)))
    by_parameters = target(parameters=dense.num_parameters() - 6000)
    pruned = prune_model(dense, tokens("news"), SMALL.changed(prune=by_parameters))
    removed = [entry["sparsity"] for entry in pruned.history]
    assert removed == [entry["sparsity"] for entry in by_share.history]
    assert removed[0] < removed[1] < removed[2]


def test_the_history_says_the_target_that_was_given_and_no_other(tiny_model: Make) -> None:
    dense = tiny_model()
    budget = target(parameters=dense.num_parameters() - 1000)
    (*_, last) = prune_model(dense, tokens("news"), SMALL.changed(prune=budget)).history
    assert last["prune"]["parameters"] == dense.num_parameters() - 1000
    assert not {"sparsity", "memory"} & set(last["prune"])


UNREACHABLE = {
    "sparsity": DENSE.changed(sparsity=0.99),
    "parameters": target(parameters=100),
    "memory": target(memory=Memory(bytes=100, precision="q4_0")),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_the_nearest_target_is_named_and_can_be_met(tiny_model: Make, name: str) -> None:
    model, budget = tiny_model(), UNREACHABLE[name]
    with pytest.raises(InputError, match=rf"^prune\.{name}: .* prune\.floor: 0\.1") as caught:
        check_target(model, budget)
    (nearest,) = re.findall(rf"the nearest that can be met is prune\.{name}: (.+?); or", str(caught.value))
    (number,) = re.findall(r"[\d.]+", nearest)[:1]
    values = {
        "sparsity": lambda: float(number),
        "parameters": lambda: int(number),
        "memory": lambda: Memory(bytes=int(number), precision="q4_0"),
    }
    check_target(model, budget.changed(**{name: values[name]()}))


def test_the_nearest_parameters_are_the_fewest_that_can_be_met(tiny_model: Make) -> None:
    model = tiny_model()
    with pytest.raises(InputError) as caught:
        check_target(model, UNREACHABLE["parameters"])
    nearest = int(re.findall(r"is prune\.parameters: (\d+)", str(caught.value))[0])
    with pytest.raises(InputError):
        check_target(model, target(parameters=nearest - 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parameters": 10**9}, r"parameters: 1000000000: the dense model has no more than [\d,]+ param"),
        (
            {"memory": Memory(bytes=10**9, precision="q8_0")},
            "precision: q8_0}: the dense model has no more than .* bytes",
        ),
    ],
)
def test_a_target_that_removes_nothing_is_refused(
    tiny_model: Make, given: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_target(tiny_model(), target(**given))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"prune.sparsity": 0.2, "prune.parameters": 10},
            "prune.parameters: 10: only one target can be given",
        ),
        ({"prune.sparsity": None}, "prune: no target; add one of sparsity, parameters, memory, mult"),
        ({"prune.parameters": 0}, "prune.parameters: 0: Input should be greater than or equal to 1"),
        ({"prune.memory": {"bytes": 0, "precision": "float32"}}, "prune.memory.bytes: 0: Input should be"),
        ({"prune.memory": {"bytes": 9, "precision": "int3"}}, "prune.memory.precision: 'int3': Input should"),
    ],
)
def test_a_target_that_nobody_can_mean_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings_of(changes)


MUCH = "whole steps take 19.8% of the decoder's parameters, where 10.0% were asked for"


@pytest.mark.parametrize(
    ("multiple", "sparsity", "said"),
    [
        (
            32,
            0.1,
            f"prune.width_multiple: 32: {MUCH}; a smaller multiple comes nearer",
        ),
        (1, 0.2, ""),
    ],
)
def test_steps_that_take_much_more_than_was_asked_for_are_told(
    tiny_model: Make, multiple: int, sparsity: float, said: str
) -> None:
    model, budget = tiny_model(), DENSE.changed(sparsity=sparsity, width_multiple=multiple)
    reached = reached_share(model, budget)
    pruned = prune_model(model, tokens("news"), SMALL.changed(prune=budget))
    assert reached == pytest.approx(pruned.history[-1]["sparsity"])
    assert coarse_steps(budget, sparsity, reached) == said


# Sites and shares of a model of three layers, two KV groups and 4 query heads; what is said of 2%.
COARSE: dict[str, tuple[dict[str, object], list[str]]] = {
    "blocks": ({"sites": ["blocks"]}, ["prune.sites: blocks: whole decoder blocks take 33.3% of"]),
    "groups": ({"sites": ["attention"]}, ["prune.sites: attention: whole KV groups take 5.5% of"]),
    "heads": ({"sites": ["query_heads"]}, ["prune.sites: query_heads: whole query heads take 3.7% of"]),
    "attentions": (
        {"sites": ["attention_blocks"], "width_multiple": 32},
        ["prune.sites: attention_blocks: whole attentions take 3.7% of"],
    ),
    "channels": (
        {"sites": ["mlp"], "width_multiple": 32},
        ["prune.width_multiple: 32: whole steps take 11.1% of"],
    ),
    "fine": ({"sites": ["mlp"]}, []),
    "fine of two": ({"sites": ["mlp", "attention"]}, []),
    "shares": (
        {"sites": ["mlp", "attention"], "shares": {"mlp": 3, "attention": 1}},
        [
            "prune.shares: mlp: 3: whole channels take 2.1% of the decoder's parameters, where 1.5%",
            "prune.shares: attention: 1: whole KV groups take 0.0% of the decoder's parameters, where 0.5%",
        ],
    ),
}


@pytest.mark.parametrize("case", COARSE)
def test_what_whole_units_make_of_a_small_target_is_told_by_its_cause(case: str) -> None:
    changes, said = COARSE[case]
    budget = DENSE.changed(sparsity=0.02, **changes)
    found = rounding(make_tiny_model(intermediate_size=256), budget)
    assert [one.startswith(start) for one, start in zip(found, said, strict=True)] == [True] * len(said)


def test_whole_experts_are_told() -> None:
    budget = DENSE.changed(sparsity=0.02, sites=["experts"])
    assert rounding(open_experts(mixture("qwen3_moe")), budget) == [
        "prune.sites: experts: whole experts take 10.7% of the decoder's parameters, where 2.0% were asked "
        "for; ask for as much, or choose sites of smaller units"
    ]
