"""What is pruned of each model_type, proved on tiny models; the whole page is among the slow tests."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from secateurs.checkpoints import family_proof as proof
from secateurs.checkpoints.family_proof import check_proved, unproved
from secateurs.errors import InputError
from secateurs.families.examples import example_config
from secateurs.kinds.mlp import Mlp
from stages.families import KINDS, row_of
from tests.project import ROOT

# Transposed modules, parallel blocks, halves of a module, a hybrid, a shared expert, experts with biases.
SAMPLE = ("gpt2", "falcon", "phi3", "moshi", "bamba", "qwen2_moe", "gpt_oss")


def small(model_type: str, **changes: Any) -> Any:
    layers = {} if model_type == "bamba" else {"num_hidden_layers": 2}
    return example_config(model_type) if not layers else AutoConfig.for_model(model_type, **layers, **changes)


def on_the_page() -> dict[str, set[str]]:
    """The kinds that docs/families.md says are pruned, by model_type."""
    table = (ROOT / "docs/families.md").read_text(encoding="utf-8").partition("## Not pruned")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    return {
        name: {kind for kind, cell in zip(KINDS, cells, strict=False) if cell == "yes"}
        for name, *cells in rows
    }


@pytest.mark.parametrize("model_type", SAMPLE)
def test_a_sample_of_families_is_pruned_by_its_mlp(model_type: str) -> None:
    assert unproved(small(model_type), "mlp") is None


@pytest.mark.parametrize("kind", ["attention", "query_heads"])
def test_heads_are_pruned_where_queries_keys_and_values_are_plain(kind: str) -> None:
    assert unproved(small("llama", num_key_value_heads=8), kind) is None


@pytest.mark.parametrize(
    ("model_type", "kind", "reason"),
    [
        ("inkling_text", "mlp", "its config's moe_intermediate_size sizes model.layers.0.mlp.shared_experts"),
        ("gpt2", "attention", "its config has no number of KV groups"),
        ("gpt_oss", "attention", "cut, a small model of it does not run"),
        ("llama", "query_heads", "no layer has more than one of its query heads in a group"),
    ],
)
def test_what_is_not_proved_is_refused_with_the_reason(model_type: str, kind: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"^config.json: model_type: {model_type}: {kind}: .*{reason}"):
        check_proved(small(model_type), kind)


def test_a_cut_that_takes_other_channels_than_the_mask_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = Mlp.cut

    def wrong(self: Mlp, layer: Any, site: Any, units: torch.Tensor) -> Any:
        return stock(self, layer, site, units.roll(1))

    monkeypatch.setattr(Mlp, "cut", wrong)
    monkeypatch.setattr(proof, "_PROVED", {})
    reason = unproved(small("llama"), "mlp")
    assert str(reason).startswith("cut, a small model of it computes something else than masked")


def test_the_page_has_at_least_130_families_pruned_by_their_mlp_or_experts() -> None:
    assert sum("mlp" in kinds for kinds in on_the_page().values()) >= 130


@pytest.mark.slow
@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_every_family_is_pruned_as_the_page_says(model_type: str) -> None:
    reasons = row_of(model_type).reasons
    assert {kind for kind in KINDS if reasons[kind] is None} == on_the_page().get(model_type, set())
