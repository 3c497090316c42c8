"""Offloading: a model and its hidden states lie in host memory while the device works on one decoder layer.

Layers wait in host memory and come to the device one ahead of their use. So do the batches that the device
has no room for, pinned, so that copies are asynchronous. On a CPU there is nothing to copy and every step
hands back what it was given.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# How many batches of work may be queued on an accelerator: enough to hide launches, few enough that the
# allocator need not hold the tensors of a whole layer's batches at once.
QUEUED = 2
# Batches stay on an accelerator as long as this share of its memory is free of them and of all else.
FREE = 0.5
# The part of what is free beyond that which is given out before the device is asked again.
PART = 0.1

Row = tuple[Tensor, ...]
# What is made of a layer on the device, by its number; the function waits for the next one, if there is one.
Work = Callable[[int, nn.Module, Callable[[], nn.Module]], nn.Module]


@dataclass(frozen=True)
class _Brought:
    """A layer on the device, and where it came from.

    origin: the layer in host memory. waiting: its tensors by the id of their copies. Where there is no CUDA
    `layer` is the origin itself, moved.
    """

    layer: nn.Module
    origin: nn.Module
    waiting: dict[int, Tensor]


class Offloading:
    """Moves tensors and layers between host memory and `device`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._room = 0.0

    def store(self, tensor: Tensor) -> Tensor:
        """The tensor where it waits: on the device while there is room, else as a copy in host memory, made
        while the device works on. On a CPU the tensor itself."""
        if self._copies is None:
            return tensor.to("cpu")
        if self._has_room(tensor.nbytes):
            return tensor.to(self.device)
        if tensor.device.type == "cpu":
            return tensor.pin_memory()
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._copies.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._copies):
            host.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._copies)
        return host

    def fetch(self, *lists: Sequence[Tensor]) -> Iterator[Row]:
        """The lists' tensors, number by number, on the device; each row's copies start one row early.

        A row may be replaced in its list (by `store`) once it has been handed out.
        """
        done: deque[torch.cuda.Event] = deque()
        rows = zip(*lists, strict=True)
        ahead = self._copied(next(rows, None))
        while ahead is not None:
            row, arrived = ahead
            if arrived is not None:
                torch.cuda.current_stream(self.device).wait_event(arrived)
                self._hand_over(row)
            ahead = self._copied(next(rows, None))
            yield row
            if self._copies is not None:
                done.append(torch.cuda.current_stream(self.device).record_event())
                if len(done) > QUEUED:
                    done.popleft().synchronize()

    def through(self, layers: nn.ModuleList, count: int, work: Work) -> None:
        """Exchange the first layers, in order, for what `work` makes of each on the device.

        A copy of a layer comes to the device while the one before is at work, and what came of that one goes
        back to host memory in the meantime. All are there at the end. What `work` returns may hold tensors of
        the layer it was given, as long as it does not change them: of those nothing is copied back.
        """
        with ThreadPoolExecutor(max_workers=1) as bringer, ThreadPoolExecutor(max_workers=1) as returner:
            coming, returned = dict[int, Future[_Brought]](), list[Future[nn.Module]]()

            def arrived(index: int) -> nn.Module:
                for number in range(index, min(index + 2, count)):
                    if number not in coming:
                        coming[number] = bringer.submit(self._bring, layers[number])
                layer = coming[index].result().layer
                if self._copies is not None:
                    self._hand_over([*layer.parameters(), *layer.buffers()])
                return layer

            for index in range(count):
                done = work(index, arrived(index), partial(arrived, index + 1))
                if returned:
                    # One at a time: the device holds no more of them.
                    layers[index - 1] = returned.pop().result()
                returned.append(returner.submit(self._return, done, coming.pop(index).result(), self._now()))
            layers[count - 1] = returned.pop().result()

    def on_device(self, value: Any, known: dict[int, Any]) -> Any:
        """`value` with its tensors on the device; `known` maps the id of what was moved to its copy, so
        that what many layers share is moved once."""
        if isinstance(value, Tensor):
            if id(value) not in known:
                # The original is kept with its copy, because otherwise its id could be given to another
                # tensor.
                known[id(value)] = (value, value.to(self.device))
            return known[id(value)][1]
        if isinstance(value, tuple | list):
            return type(value)(self.on_device(item, known) for item in value)
        if isinstance(value, dict):
            return {name: self.on_device(item, known) for name, item in value.items()}
        return value

    def _has_room(self, size: int) -> bool:
        """Whether FREE of the device's memory would still be free of all programs with so many bytes more."""
        if size > self._room:
            # Asking takes as long as some of a layer's kernels, so a part of what is free is taken at once.
            free, total = torch.cuda.mem_get_info(self.device)
            free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            self._room = PART * (free - FREE * total)
        if size > self._room:
            return False
        self._room -= size
        return True

    def _bring(self, layer: nn.Module) -> _Brought:
        if self._copies is None:
            return _Brought(layer.to(self.device), layer, {})
        known: dict[int, Any] = {}
        waiting: dict[int, Tensor] = {}
        stream = torch.cuda.Stream(self.device)
        with torch.cuda.stream(stream):
            for tensor in (*layer.parameters(), *layer.buffers()):
                # Through pinned memory: a copy from or to pageable memory keeps other threads from launching
                # kernels for as long as it takes.
                there = tensor.detach().pin_memory().to(self.device, non_blocking=True)
                moved = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
                known[id(tensor)], waiting[id(moved)] = moved, tensor
        whole = copy.deepcopy(layer, known)
        stream.synchronize()
        return _Brought(whole, layer, waiting)

    def _now(self) -> torch.cuda.Event | None:
        """What has been asked of the device so far; nothing on a CPU."""
        return None if self._copies is None else torch.cuda.current_stream(self.device).record_event()

    def _return(self, done: nn.Module, brought: _Brought, ready: torch.cuda.Event | None) -> nn.Module:
        if self._copies is None or ready is None:
            return done.to("cpu")
        if done is brought.layer:
            return brought.origin
        stream = torch.cuda.Stream(self.device)
        with torch.cuda.stream(stream):
            stream.wait_event(ready)
            for tensor in (*done.parameters(), *done.buffers()):
                unchanged = brought.waiting.get(id(tensor))
                tensor.data = _in_host_memory(tensor, stream) if unchanged is None else unchanged.data
        return done

    def _copied(self, row: Row | None) -> tuple[Row, torch.cuda.Event | None] | None:
        if row is None:
            return None
        if self._copies is None:
            return tuple(tensor.to(self.device) for tensor in row), None
        with torch.cuda.stream(self._copies):
            moved = tuple(tensor.to(self.device, non_blocking=True) for tensor in row)
        return moved, self._copies.record_event()

    def _hand_over(self, tensors: Sequence[Tensor]) -> None:
        # Memory of one stream that another works on must not be given out again before that work is done.
        for tensor in tensors:
            tensor.record_stream(torch.cuda.current_stream(self.device))


def _in_host_memory(tensor: Tensor, stream: torch.cuda.Stream) -> Tensor:
    """A copy in pageable host memory, which this thread waits for."""
    staged = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    staged.copy_(tensor, non_blocking=True)
    stream.synchronize()
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(staged)
