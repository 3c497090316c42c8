"""What the card of a pruned checkpoint says of its calibration text."""

from secateurs.checkpoints.proof import Proof
from secateurs.heal.healed import Healed
from stages.params.file import read_params
from stages.reporting.model_card import CalibrationText, Measures, model_card
from tests.project import PARAMS
from tests.stages.reporting.evidence import history


def card(text: CalibrationText) -> list[str]:
    prune = {"widths": "uniform", "width_multiple": 1, "sites": ["mlp"]}
    rounds = [{**entry, "prune": prune, "sequences": {"news": 2}} for entry in history()]
    measures, proof = Measures(1000, 1500, 5.0), Proof("5", "LlamaForCausalLM", 48, 1e-6)
    healed = Healed("residual", {})
    return model_card(read_params(PARAMS), rounds, text, measures, measures, healed, proof).splitlines()


def test_an_engine_that_wrote_text_of_the_models_own_is_named_with_version_and_seed() -> None:
    facts = {"engine": "vLLM", "version": "0.9", "seed": 4, "dtype": "bfloat16"}
    bare, named = card(CalibrationText(24)), card(CalibrationText(24, {"self": facts}))
    line = "- text of `self`: written by the dense model through vLLM 0.9, in bfloat16, seed 4"
    assert [one for one in named if one not in bare] == [line]
    assert set(bare) <= set(named)
