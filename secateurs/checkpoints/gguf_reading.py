"""GGUF files read in seconds: by transformers and the gguf package, without what they do many times over."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gguf
import numpy as np


class Reader(gguf.GGUFReader):
    """The package's reader on a plain view of the mapped file: slices of a memmap cost far more."""

    @property
    def data(self) -> Any:
        """The file's bytes, uint8 [size]; views of them keep it mapped."""
        return self._data

    @data.setter
    def data(self, mapped: Any) -> None:
        self._data = np.asarray(mapped)


@contextmanager
def parsed_once() -> Iterator[None]:
    """In the context a GGUF file is parsed the first time it is opened, and not again.

    transformers opens it for the config, for the tokenizer and for the weights, and a parse takes seconds for
    each 50,000 tokens of the vocabulary. It also makes the table of an architecture's tensor names once for
    each module of the model.
    """
    quick: dict[str, Any] = {
        "GGUFReader": functools.cache(Reader),
        "get_tensor_name_map": functools.cache(gguf.get_tensor_name_map),
    }
    own = {name: vars(gguf)[name] for name in quick}
    vars(gguf).update(quick)
    try:
        yield
    finally:
        vars(gguf).update(own)
