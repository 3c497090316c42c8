"""The metadata of a GGUF file, for another file."""

from collections.abc import Callable

import gguf


def copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter, wanted: Callable[[str], bool]) -> None:
    """Add the keys of a file that are `wanted` to a writer, which has the architecture already."""
    for field in reader.fields.values():
        # What the writer itself writes.
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or not wanted(field.name):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
