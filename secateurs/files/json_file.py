"""JSON files, written whole, and never with a number that JSON has no word for."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateurs.errors import InputError
from secateurs.files.atomic import atomic


def write_json(path: Path, data: Any) -> None:
    """Write JSON, keys in the order given, with a final newline. Raises InputError for NaN and infinity."""
    key = not_finite(data)
    if key is not None:
        raise InputError(f"{path}: {key}: would not be a finite number; set compute.dtype: float32")
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def not_finite(data: Any) -> str | None:
    """Where in nested data the first number stands that is not finite, as `a.b.0`; None without one."""
    items = data.items() if isinstance(data, Mapping) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if isinstance(value, float) and not math.isfinite(value):
            return str(key)
        inner = not_finite(value)
        if inner is not None:
            return f"{key}.{inner}"
    return None
