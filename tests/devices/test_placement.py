"""The choice of a device, and models that are placed on several."""

import pytest
import torch

from secateurs.devices.placement import copied, place, resolve_device
from secateurs.errors import InputError
from tests.tiny import make_tiny_model


def test_auto_always_finds_a_device() -> None:
    assert resolve_device("auto").type in {"cuda", "mps", "cpu"}
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_key() -> None:
    with pytest.raises(InputError, match=r"compute.device: cuda:99: not on this machine"):
        resolve_device("cuda:99")


def test_one_model_over_all_devices_leaves_none_for_a_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"compute.device: sharded: one model over all devices"):
        resolve_device("sharded")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without an accelerator says")
def test_sharding_without_an_accelerator_is_refused() -> None:
    with pytest.raises(InputError, match=r"compute.device: sharded: not on this machine"):
        place(make_tiny_model(), "sharded")


def test_a_copy_on_a_device_computes_the_same_and_shares_no_weight() -> None:
    model = make_tiny_model(tie_word_embeddings=True).requires_grad_(False)
    ids = torch.arange(2, 40).reshape(2, -1)
    expected = model(ids).logits

    copy = copied(model, "cpu")
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()

    assert torch.equal(copy(ids).logits, expected)
    assert copy.lm_head.weight is copy.get_input_embeddings().weight
    assert not any(weight.requires_grad for weight in copy.parameters())
