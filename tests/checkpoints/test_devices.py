"""The choice of a device, and models that are placed on several."""

import pytest
import torch

from stages.checkpoints.devices import place, resolve_device
from stages.common.errors import InputError
from tests.conftest import make_tiny_model


def test_auto_always_finds_a_device() -> None:
    assert resolve_device("auto").type in {"cuda", "mps", "cpu"}
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused_by_key() -> None:
    with pytest.raises(InputError, match=r"params.yaml: compute.device: cuda:99: not on this machine"):
        resolve_device("cuda:99")


def test_one_model_over_all_devices_leaves_none_for_a_second_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"compute.device: sharded: one model over all devices"):
        resolve_device("sharded")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without an accelerator says")
def test_sharding_without_an_accelerator_is_refused() -> None:
    with pytest.raises(InputError, match=r"compute.device: sharded: not on this machine"):
        place(make_tiny_model(), "sharded")
