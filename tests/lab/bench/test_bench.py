"""The benchmark's own arithmetic, on a tiny shape."""

import ast
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig

from lab.bench import __main__ as program
from lab.bench import pruning_speed, serving, shapes
from lab.bench.clock import backward_operations, forward_operations
from lab.bench.floors import (
    Ceilings,
    fisher_floor,
    forward_bytes,
    reading_floor,
    surgery_floor,
    writing_floor,
)
from lab.bench.setup import Record, Setup
from lab.bench.shapes import cut_model, random_text
from tests.project import invoke, under_torchrun

CPU = torch.device("cpu")
TINY = LlamaConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    return Setup("tiny", CPU, torch.float32, 4, 16, 2)


def test_operations_are_those_that_torch_counts(setup: Setup) -> None:
    """Torch counts attention over all pairs of tokens; half of them are behind the causal mask."""
    model = setup.model()
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(random_text(model, 1, 16), use_cache=False)
    attention = 2 * 16 * TINY.hidden_size * TINY.num_hidden_layers
    assert counter.get_total_flops() == pytest.approx(16 * (forward_operations(model, 16) + attention))


def test_the_floor_of_surgery_is_what_torch_counts_of_its_products(setup: Setup) -> None:
    """Attention is counted over all pairs of tokens by torch, and half of it here; so is the Gram matrix."""
    model, inf, kept, tokens = setup.model(), math.inf, 200, 4 * 16
    layers, hidden = TINY.num_hidden_layers, TINY.hidden_size
    with FlopCounterMode(display=False) as streams, torch.no_grad():
        model.set_attn_implementation("eager")
        model.base_model(random_text(model, 4, 16), use_cache=False)
    half_attention = 2 * 16 * hidden * layers * tokens
    x, weight = torch.zeros(tokens, kept), torch.zeros(hidden, kept)
    with FlopCounterMode(display=False) as gram:
        x.T @ x
    with FlopCounterMode(display=False) as cross:
        (x @ weight.T).T @ x
    once = cross.get_total_flops() / 2
    products = 2 * (streams.get_total_flops() - half_attention) + layers * (gram.get_total_flops() / 2 + once)
    floor = surgery_floor(model, kept, 4, 16, Ceilings(1.0, inf, inf, inf, inf))
    assert floor == pytest.approx(products)
    assert surgery_floor(model, kept, 4, 16, Ceilings(inf, 1.0, inf, inf, inf)) == layers * once
    copied = 2 * 4 * sum(weight.numel() for weight in model.model.layers.parameters())
    assert surgery_floor(model, kept, 4, 16, Ceilings(inf, inf, inf, inf, 1.0)) == copied


def test_the_floor_of_a_fisher_round_counts_products_and_passes_between_them(setup: Setup) -> None:
    model, inf = setup.model(), math.inf
    products = 4 * 16 * backward_operations(model, 16)
    assert fisher_floor(model, 4, 16, Ceilings(2.0, inf, inf, inf, inf)) == products / 2
    # A value of 4 bytes: 22 d, 4 of queries and keys (6 heads of 8), 10 m, for each token and layer.
    passes = 4 * 16 * 2 * 4 * (22 * 32 + 4 * 48 + 10 * 256)
    assert fisher_floor(model, 4, 16, Ceilings(inf, inf, inf, 8.0, inf)) == passes / 8


def test_the_floor_of_likelihoods_counts_each_row_once_and_the_head_where_it_is_asked(setup: Setup) -> None:
    model, inf = setup.model(), math.inf
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for length in (9, 5):
            model.base_model(random_text(model, 1, length), use_cache=False)
        model.lm_head(torch.zeros(6, 32))
    # Torch counts attention over all pairs of tokens.
    half_attention = sum(2 * length**2 for length in (9, 5)) * TINY.hidden_size * TINY.num_hidden_layers
    floor = reading_floor(model, [9, 5], 6, Ceilings(1.0, inf, inf, inf, inf))
    assert floor == counter.get_total_flops() - half_attention
    assert reading_floor(model, [9, 5], 6, Ceilings(inf, inf, inf, 1.0, inf)) == forward_bytes(model, 14)


def test_the_floor_of_writing_counts_the_rows_that_still_write_and_all_that_they_see(setup: Setup) -> None:
    model, inf = setup.model(), math.inf
    prompts, written = [9, 5], [3, 1]
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(random_text(model, 1, 1), use_cache=False)
    one_pair = 4 * TINY.hidden_size * TINY.num_hidden_layers
    products = reading_floor(model, prompts, 2, Ceilings(1.0, inf, inf, inf, inf))
    # The first row has two tokens to write after its first one, the other none.
    products += 2 * (counter.get_total_flops() - one_pair)
    assert writing_floor(model, prompts, written, Ceilings(1.0, inf, inf, inf, inf)) == products
    with torch.no_grad():
        cache = model(random_text(model, 1, 10), use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) / 10
    weights = sum(m.weight.nbytes for m in model.modules() if isinstance(m, torch.nn.Linear))
    moved = forward_bytes(model, 14) + 2 * weights + (10 + 11) * kept
    assert writing_floor(model, prompts, written, Ceilings(inf, inf, inf, 1.0, inf)) == moved


@pytest.mark.parametrize("sparsity", [0.1, 0.2])
def test_a_shape_is_cut_to_its_sparsity(setup: Setup, sparsity: float) -> None:
    dense = sum(weight.numel() for weight in setup.model().model.layers.parameters())
    left = sum(weight.numel() for weight in cut_model(setup.model(), sparsity).model.layers.parameters())
    # Widths are rounded down to a multiple of 64 of 256 channels.
    assert 1 - 1.3 * sparsity - 0.15 < left / dense <= 1 - sparsity


@pytest.mark.slow
def test_two_processes_side_by_side_do_the_work_of_one(tmp_path: Path) -> None:
    """Over Gloo; what they gain depends on the cores, what they find does not."""
    script = tmp_path / "measure.py"
    script.write_text(
        "import os, pathlib, torch\n"
        "from lab.bench.setup import Setup\n"
        "from tests.lab.bench.test_bench import TINY\n"
        "from lab.bench.shapes import SHAPES\n"
        "from lab.bench.together import side_by_side\n"
        "SHAPES['tiny'] = TINY\n"
        "found = side_by_side(Setup('tiny', torch.device('cpu'), torch.float32, 5, 16, 2))\n"
        # Each process writes a file of its own: lines of two processes mix in one stream.
        "pathlib.Path(__file__).with_suffix('.' + os.environ['RANK']).write_text(repr(found))\n"
    )
    under_torchrun(2, str(script))
    first, other = (
        ast.literal_eval(script.with_suffix(suffix).read_text(encoding="utf-8")) for suffix in (".0", ".1")
    )
    assert other == {}
    assert first["processes"] == 2
    assert first["Fisher statistics, relative difference"] < 1e-5
    assert first["healed weights, relative difference"] < 1e-3
    assert first["Fisher round, speed-up"] > 0


@pytest.mark.parametrize(
    "measure",
    [
        pruning_speed.capture_speed,
        pruning_speed.surgery_speed,
        serving.likelihood_speed,
        serving.writing_speed,
        pruning_speed.whole_rounds,
        pruning_speed.four_rounds,
        pruning_speed.by_size,
    ],
)
def test_a_part_measures_something(setup: Setup, measure: Callable[[Setup], Record]) -> None:
    found = measure(setup)
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    assert any(value > 0 for name, value in found.items() if name.endswith(", s"))


def test_rows_are_kept_beside_those_measured_before(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"one": (pruning_speed.surgery_alone, setup), "two": (pruning_speed.whole_rounds, setup)}
    monkeypatch.setitem(program.SUITES, "cpu", rows)
    for name in rows:
        invoke(program.main, "cpu", "--only", name, "--out", str(tmp_path / "found.json"))
    text = (tmp_path / "found.json").read_text(encoding="utf-8")
    assert text.index('"one"') < text.index('"two"')
