"""What a capture that streams a model's layers holds at once and reads from disk: from sizes alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from secateurs.estimate.read_tokens import Reading
from secateurs.evaluation.units import size
from secateurs.families.decoder import decoder_layers, decoder_parameters, text_config
from secateurs.settings.method import Settings


@dataclass(frozen=True)
class Streaming:
    """Bytes of what a streamed capture handles.

    ends: embeddings, final norm and head, on the device throughout. layer: the largest decoder layer.
    hidden: the hidden states of all text of a round, with those of left-out text of two models. read: of the
    files, in each round.
    """

    ends: float
    layer: float
    hidden: float
    read: float


def streaming(model: PreTrainedModel, settings: Settings, reading: Reading) -> Streaming:
    """The bytes, of one process. model: on the meta device or with weights."""
    each = reading.bytes_each
    whole, layers = model.num_parameters(), decoder_layers(model)
    largest = max(sum(one.numel() for one in layer.parameters()) for layer in layers)
    sequences = settings.capture.sequences + 2 * settings.mask.left_out
    tokens = sum(reading.domains.values()) * sequences * reading.tokens
    return Streaming(
        ends=float((whole - decoder_parameters(model)) * each),
        layer=float(largest * each),
        hidden=float(tokens * text_config(model.config).hidden_size * each),
        read=float(whole * each),
    )


def streaming_lines(model: PreTrainedModel, settings: Settings, reading: Reading) -> Iterator[str]:
    """What is said of a streamed capture; nothing of another."""
    if settings.capture.layers != "streamed":
        return
    found = streaming(model, settings, reading)
    yield (
        f"Capture streams {len(decoder_layers(model))} layers: the device holds {size(found.ends)} of "
        f"embeddings and head and at most {size(found.layer)} of a layer;"
    )
    yield (
        f"host memory, where the device has no room, {size(found.hidden)} of hidden states and a layer; each "
        f"round reads {size(found.read)}."
    )
