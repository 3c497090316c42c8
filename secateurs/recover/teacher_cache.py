"""The dense model's distributions on disk: written once, then read in place of the model in training."""

import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.devices.precision import tensor_cores
from secateurs.errors import InputError, SettingError
from secateurs.inference.likeliest import Likeliest, likeliest
from secateurs.inference.norms import fused_norms
from secateurs.vocabulary.embedding_rows import vocabulary_rows

_CHECKSUM = 4


def bytes_of_sequence(tokens: int, count: int) -> int:
    """Bytes on disk of a sequence: 4 + tokens (6 count + 4), with `count` likeliest tokens at each position.

    A token takes 4 bytes (int32) for each id, 2 (float16) for each logarithm of a probability and 4 (float32)
    for that of the rest; 4 more are a checksum. With 64 tokens that is 388 bytes a token of text.
    """
    return _CHECKSUM + tokens * (6 * count + 4)


@dataclass(frozen=True)
class CachedTeacher:
    """The likeliest tokens of a dense model after each position of some sequences, in a file.

    path: the file. places: a sequence's ids as bytes (int64) -> its place in the file. tokens: the length of
    each. count: the likeliest tokens of each position.
    """

    path: Path
    places: dict[bytes, int]
    tokens: int
    count: int

    def targets(self, rows: Tensor) -> Likeliest:
        """What the dense model says after each position of int64 [rows, tokens], on their device.

        Classes add up to 1 again after float16 has rounded them. Raises InputError for a damaged file.
        """
        size, read = bytes_of_sequence(self.tokens, self.count), list[Likeliest]()
        with self.path.open("rb") as file:
            for key in _keys(rows):
                file.seek(self.places[key] * size)
                read.append(self._parsed(file.read(size)))
        ids, log_p, rest = (
            torch.stack([getattr(one, name) for one in read]).to(rows.device)
            for name in ("ids", "log_p", "rest")
        )
        whole = torch.cat([log_p, rest[..., None]], dim=-1).logsumexp(dim=-1)
        return Likeliest(ids, log_p - whole[..., None], rest - whole)

    def _parsed(self, record: bytes) -> Likeliest:
        size = bytes_of_sequence(self.tokens, self.count)
        content, cells = record[_CHECKSUM:], self.tokens * self.count
        if len(record) != size or record[:_CHECKSUM] != _checksum(content):
            raise InputError(f"{self.path}: damaged: not as it was written; delete it and run again")
        ids = np.frombuffer(content, "<i4", cells).astype(np.int64)
        log_p = np.frombuffer(content, "<f2", cells, offset=4 * cells).astype(np.float32)
        rest = np.frombuffer(content, "<f4", self.tokens, offset=6 * cells).astype(np.float32)
        shape = (self.tokens, self.count)
        return Likeliest(
            torch.from_numpy(ids).view(shape), torch.from_numpy(log_p).view(shape), torch.from_numpy(rest)
        )


def cached_teacher(path: Path, rows: Tensor, count: int) -> CachedTeacher:
    """The teacher whose file is, or will be, at `path`: of int64 [rows, tokens], equal ones once."""
    places: dict[bytes, int] = {}
    for key in _keys(rows):
        places.setdefault(key, len(places))
    return CachedTeacher(path, places, rows.shape[1], count)


def write_cache(
    cache: CachedTeacher, teacher: PreTrainedModel, at_once: int, on_rows: Callable[[int], object]
) -> None:
    """Write a cache's file, if it is not there; one that was begun goes on to the same bytes.

    The file has the sequences one after the other, `bytes_of_sequence` each, and its name only when it is
    whole and on disk. at_once: how many run together. on_rows: told of how many more are there. Raises
    SettingError for more likeliest tokens than there are.
    """
    vocabulary = vocabulary_rows(teacher)
    if cache.count > vocabulary:
        raise SettingError(
            f"recover.cached.likeliest: {cache.count}: the vocabulary has {vocabulary} tokens; at most "
            "as many"
        )
    if cache.path.exists():
        on_rows(len(cache.places))
        return
    cache.path.parent.mkdir(parents=True, exist_ok=True)
    begun, size = cache.path.with_suffix(".begun"), bytes_of_sequence(cache.tokens, cache.count)
    rows = torch.frombuffer(bytearray(b"".join(cache.places)), dtype=torch.int64).view(-1, cache.tokens)
    # Sequences that ran together do so again, because rounding may depend on how many there are.
    made = begun.stat().st_size // (size * at_once) * at_once if begun.exists() else 0
    on_rows(made)
    with begun.open("ab") as file, fused_norms(teacher), tensor_cores():
        file.truncate(made * size)
        for part in rows[made:].split(at_once):
            found = likeliest(teacher, part.to(teacher.device), cache.count)
            file.write(b"".join(_records(found)))
            file.flush()
            on_rows(len(part))
        os.fsync(file.fileno())
    begun.replace(cache.path)


def _records(found: Likeliest) -> list[bytes]:
    """A record of each sequence."""
    parts = zip(
        found.ids.cpu().numpy().astype("<i4"),
        found.log_p.cpu().numpy().astype("<f2"),
        found.rest.cpu().numpy().astype("<f4"),
        strict=True,
    )
    contents = [b"".join(one.tobytes() for one in part) for part in parts]
    return [_checksum(content) + content for content in contents]


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "little")


def _keys(rows: Tensor) -> list[bytes]:
    return [row.tobytes() for row in rows.cpu().numpy()]
