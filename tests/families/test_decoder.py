"""The list of decoder layers is found by its length, and nothing inside of it is looked at."""

from collections.abc import Iterator

import pytest
from torch import nn
from transformers import BartConfig, BartForConditionalGeneration

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers, layers_name
from tests.tiny import make_tiny_model


def test_layers_are_not_walked_through_to_find_their_list() -> None:
    model = make_tiny_model()

    def walk() -> Iterator[tuple[str, nn.Module]]:
        raise AssertionError("the layers of a mixture have tens of thousands of modules")

    for layer in model.model.layers:
        layer.named_children = walk
    assert layers_name(model) == "model.layers"
    assert decoder_layers(model) is model.model.layers


def test_a_list_inside_of_another_of_its_length_is_not_meant() -> None:
    model = make_tiny_model()
    model.model.layers[0].parts = nn.ModuleList(nn.Identity() for _ in range(3))
    assert layers_name(model) == "model.layers"


def test_of_an_encoders_and_a_decoders_the_decoders_is_meant() -> None:
    sizes = ("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "vocab_size")
    # Both have the twelve layers that BART has.
    model = BartForConditionalGeneration(BartConfig(**dict.fromkeys(sizes, 32)))
    assert layers_name(model) == "model.decoder.layers"


def test_two_lists_beside_each_other_are_refused() -> None:
    model = make_tiny_model()
    model.model.others = nn.ModuleList(nn.Identity() for _ in range(3))
    with pytest.raises(InputError, match="has 2 lists of 3 layers; one is needed, the decoder's"):
        layers_name(model)
