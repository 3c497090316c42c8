"""Which of several healed models is nearest to the dense one, on text that took no part in healing."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.offloading import Offloading
from secateurs.devices.parallel import summed
from secateurs.heal.residual_streams import enter, leave, own_batches
from secateurs.inference.divergence import divergences_of_hidden
from secateurs.inference.head import head_logits


class Comparison:
    """The residual streams of the dense and of every healed model, at the depth reached so far.

    One layer of each model is enough at a time, so models that fit nowhere whole can be compared.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sequences: Mapping[str, Tensor],
        mixture: Mapping[str, float],
        models: int,
        *,
        batch_size: int,
        offloading: Offloading,
    ) -> None:
        """model: the dense one, in host memory. sequences: int64 [count, tokens] by domain; how much a token
        of each counts is in `mixture`. models: how many are compared with the dense one."""
        self.batches, self.weights = own_batches(sequences, mixture, batch_size)
        self.offloading = offloading
        hidden, self.calls = enter(model, self.batches, offloading)
        self.dense = hidden
        self.healed = [list(hidden) for _ in range(models)]

    def advance(self, index: int, dense: nn.Module, healed: Sequence[nn.Module]) -> None:
        """Move every stream through its own model's decoder layer `index`, which is on the device."""
        for stream, layer in zip([self.dense, *self.healed], [dense, *healed], strict=True):
            for number, (hidden,) in enumerate(self.offloading.fetch(stream)):
                stream[number] = self.offloading.store(self.calls.run(index, layer, hidden))

    def divergences(self, model: PreTrainedModel) -> list[float]:
        """Of each healed model, once all layers are passed:

            sum_t w_t KL(p_t || q_t) / sum_t w_t    p: the dense model's next-token distribution, q: its own

        in nats, the same in every process of a group. model: has the final norm and the head, which pruning
        leaves alone.
        """
        device = self.offloading.device
        logits = head_logits(model, device)
        sums = torch.zeros(1 + len(self.healed), dtype=torch.float64)
        for batch, weight, *streams in zip(self.batches, self.weights, self.dense, *self.healed, strict=True):
            target, *found = (leave(model, batch, hidden.to(model.device)).to(device) for hidden in streams)
            sums[0] += weight * len(batch)
            for number, hidden in enumerate(found, 1):
                each = divergences_of_hidden(hidden, target, logits, logits)
                sums[number] += weight * float(each.sum())
        count, *totals = summed(sums).tolist()
        return [total / count for total in totals]
