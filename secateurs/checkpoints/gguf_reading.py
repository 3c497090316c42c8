"""GGUF files read in seconds: by transformers and the gguf package, without what they do many times over."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import gguf
import numpy as np
from transformers import modeling_gguf_pytorch_utils
from transformers.integrations.gguf import reader

_TEXT = gguf.GGUFValueType.STRING
_INTEGERS = {value for value in gguf.GGUFValueType if value.name.startswith(("INT", "UINT"))}
_value_of: Callable[..., Any] = vars(modeling_gguf_pytorch_utils)["_gguf_parse_value"]
_mapped: Callable[..., Any] = vars(reader)["_mapped"]


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
def alone(file: Path) -> Iterator[Path]:
    """A folder that has nothing but a link to the file, by its name.

    transformers would take tokenizer.json and generation_config.json from beside a GGUF file, whichever model
    they are of, rather than what the file itself says.
    """
    with TemporaryDirectory(prefix="secateurs-") as directory:
        folder = Path(directory)
        (folder / file.name).symlink_to(file.absolute())
        yield folder


@contextmanager
def parsed_once() -> Iterator[None]:
    """In the context a GGUF file is parsed the first time it is opened, and not again.

    transformers opens it for the config, for the tokenizer and for the weights, and a parse takes seconds for
    each 50,000 tokens of the vocabulary, of which each is made a value every time. It also makes the table of
    an architecture's tensor names once for each module of the model.
    """
    quick: list[tuple[ModuleType, str, Any]] = [
        (gguf, "GGUFReader", functools.cache(Reader)),
        (gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map)),
        (modeling_gguf_pytorch_utils, "_gguf_parse_value", _quick_value),
        (reader, "_mapped", lambda path: np.asarray(_mapped(path))),
    ]
    own = [(module, name, getattr(module, name)) for module, name, _ in quick]
    try:
        for module, name, value in quick:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in own:
            setattr(module, name, value)


def _quick_value(part: Any, types: Any) -> Any:
    """What transformers makes of a part of a field, without a list of the bytes of each text."""
    if types[-1] == _TEXT:
        return part.tobytes().decode()
    return int(part[0]) if types[-1] in _INTEGERS else _value_of(part, types)
