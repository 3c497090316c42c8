"""A decoder inside a model that reads pictures: it is pruned in place, and the rest stays bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessorPil,
    LlavaProcessor,
    PreTrainedModel,
)

from secateurs.checkpoints.family_proof import half_masks, unproved
from secateurs.checkpoints.loading import load_model
from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.saving import save_model
from secateurs.families.decoder import decoder_layers, text_config
from secateurs.heal.layers import HealingText
from secateurs.kinds.sites import sites_of
from secateurs.settings.pruning import Surgery
from tests.healing import healed
from tests.test_command import FEW, run
from tests.tiny import make_tiny_tokenizer

IMAGE = 258
IDS = torch.randint(2, 258, (4, 16), generator=torch.Generator().manual_seed(0))
VISION = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14, "projection_dim": 32}  # fmt: skip
TEXT = {"model_type": "llama", "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip


def llava() -> PreTrainedModel:
    config = AutoConfig.for_model(
        "llava", vision_config={"model_type": "clip_vision_model", **VISION}, text_config=TEXT,
        image_token_id=IMAGE, image_seq_length=4, vision_feature_layer=-1,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)


def processor() -> LlavaProcessor:
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert tokenizer.convert_tokens_to_ids("<image>") == IMAGE
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=14,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, image_token="<image>",
    )  # fmt: skip


def pruned(model: PreTrainedModel) -> PreTrainedModel:
    masks = half_masks(sites_of(model, ["mlp"]))
    surgery = Surgery(heal="residual", alpha=0.5, ridge=0.01)
    return healed(model, masks, surgery, HealingText({"d": IDS}, {"d": 1.0}))[0]


def answer(model: PreTrainedModel, prepared: Any) -> list[int]:
    made: Any = model
    written = made.generate(**prepared, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    return written[0, prepared["input_ids"].shape[1] :].tolist()


def test_the_decoder_is_cut_in_place_and_the_rest_stays_bit_for_bit() -> None:
    model = llava()
    smaller = pruned(model)
    assert text_config(smaller.config).intermediate_size == 24
    own = {id(weight) for weight in decoder_layers(smaller).parameters()}
    rest = {name for name, weight in smaller.named_parameters() if id(weight) not in own}
    before = model.state_dict()
    assert len(rest) > 40
    assert all(torch.equal(smaller.state_dict()[name], before[name]) for name in rest)


def test_the_result_loads_in_its_own_class_and_answers_about_a_picture(tmp_path: Path) -> None:
    smaller = pruned(llava())
    processor().save_pretrained(tmp_path / "dense")
    save_model(smaller, tmp_path / "pruned")
    make_tiny_tokenizer().save_pretrained(tmp_path / "pruned")
    copy_processor(tmp_path / "dense", tmp_path / "pruned")
    ready = processor()
    loaded = load_model(tmp_path / "pruned", "float32")
    assert type(loaded).__name__ == "LlavaForConditionalGeneration"
    answers = []
    for shade in (0, 255):
        picture = Image.fromarray(np.full((28, 28, 3), shade, dtype=np.uint8))
        prepared = ready(images=picture, text="What is <image>?", return_tensors="pt")
        answers.append(answer(loaded, prepared))
        assert answers[-1] == answer(smaller, prepared)
    # The picture is seen: another one is answered otherwise.
    assert answers[0] != answers[1]
    settings = AutoProcessor.from_pretrained(tmp_path / "dense").image_processor.to_dict()
    assert AutoProcessor.from_pretrained(tmp_path / "pruned").image_processor.to_dict() == settings


@pytest.mark.parametrize("model_type", ["llava", "mistral3", "qwen3_vl", "internvl", "gemma3"])
@pytest.mark.slow
def test_decoders_of_published_models_for_pictures_are_proved(model_type: str) -> None:
    assert unproved(AutoConfig.for_model(model_type), "mlp") is None


# As the published files of Qwen2-VL and Qwen2.5-VL have it: the decoder's entries beside those of the whole
# model, and the sections of the angles by their oldest name.
FLAT = {
    "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 512,
    "max_window_layers": 2,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
    "sliding_window": 32768, "use_sliding_window": False, "tie_word_embeddings": True, "vocab_size": 264,
    "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1, "vision_start_token_id": 258,
    "vision_end_token_id": 259, "vision_token_id": 260, "image_token_id": 261, "video_token_id": 262,
    "torch_dtype": "float32", "transformers_version": "4.41.2",
}  # fmt: skip
EYES = {"depth": 2, "num_heads": 2, "in_chans": 3, "hidden_size": 32, "patch_size": 4,
        "spatial_merge_size": 2, "spatial_patch_size": 4, "temporal_patch_size": 2}  # fmt: skip
PUBLISHED = {
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", EYES | {"embed_dim": 32, "mlp_ratio": 2}),
    "qwen2_5_vl": (
        "Qwen2_5_VLForConditionalGeneration",
        EYES | {"intermediate_size": 40, "out_hidden_size": 32, "window_size": 16,
                "fullatt_block_indexes": [1], "tokens_per_second": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_a_flat_config_with_sections_of_angles_is_pruned_in_place(model_type: str, tmp_path: Path) -> None:
    architecture, vision = PUBLISHED[model_type]
    told = {"architectures": [architecture], "model_type": model_type, **FLAT, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    config = AutoConfig.from_pretrained(tmp_path)
    torch.manual_seed(0)
    made = AutoModelForImageTextToText.from_config(config).eval().requires_grad_(False)
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    model = load_model(tmp_path, "float32")
    assert unproved(model.config, "mlp") is None
    smaller = pruned(model)
    own = {id(weight) for weight in decoder_layers(smaller).parameters()}
    before = model.state_dict()
    rest = [name for name, weight in smaller.named_parameters() if id(weight) not in own]
    assert all(torch.equal(smaller.state_dict()[name], before[name]) for name in rest)
    save_model(smaller, tmp_path / "pruned")
    loaded = load_model(tmp_path / "pruned", "float32")
    assert (type(loaded).__name__, text_config(loaded.config).intermediate_size) == (architecture, 24)
    ids = torch.tensor([[5, 258, *[261] * 4, 259, 6, 7]])
    answers = []
    for seed in (0, 1):
        pixels = torch.randn(16, 3 * 2 * 4 * 4, generator=torch.Generator().manual_seed(seed))
        asked = {
            "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": 4 * pixels,
            "image_grid_thw": torch.tensor([[1, 4, 4]]), "mm_token_type_ids": (ids == 261).int(),
        }  # fmt: skip
        answers.append(answer(loaded, asked))
        assert answers[-1] == answer(smaller, asked)
    assert answers[0] != answers[1]


@pytest.mark.usefixtures("quick_programs")
def test_one_command_keeps_what_prepares_pictures(here: Path) -> None:
    save_model(llava(), here / "model")
    processor().save_pretrained(here / "model")
    for name in ("letters", "tickets"):
        lines = [json.dumps({"body": f"{name} {n} says {n * n} and {n + 7}"}) for n in range(200)]
        (here / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    texts = ["--text", "letters.jsonl:body", "--text", "tickets.jsonl:body"]
    run("model", *FEW, *texts, "--sparsity", "0.1", "--set", "prune.width_multiple=1", "--out", "small")
    kept = AutoProcessor.from_pretrained("small")
    assert kept.image_processor.to_dict() == processor().image_processor.to_dict()
