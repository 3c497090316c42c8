"""K-quants: a GGUF file made smaller by llama.cpp's own program, `llama-quantize`, where it is installed."""

import re
import shutil
import subprocess
from pathlib import Path

from secateurs.errors import InputError, SettingError
from secateurs.files.full_disk import check_room
from secateurs.gguf.checking import check_finite

# By precision: what the program calls it.
K_QUANTS = {
    "q6_k": "Q6_K",
    "q5_k_m": "Q5_K_M",
    "q5_k_s": "Q5_K_S",
    "q4_k_m": "Q4_K_M",
    "q4_k_s": "Q4_K_S",
    "q3_k_m": "Q3_K_M",
    "q2_k": "Q2_K",
}
# What the program reads: float32, because a weight beyond 65,504 is infinite in float16.
SOURCE_PRECISION = "f32"
FALLBACK = re.compile(r"(\d+) of (\d+) tensor\(s\) required fallback")


def find_program(named: str) -> str:
    """Where `export.llama_quantize`, a name on PATH or a path, is. Raises InputError where it is not."""
    found = shutil.which(named)
    if found is None:
        raise SettingError(
            f"export.llama_quantize: {named}: no such program; K-quants are written by that of "
            "llama.cpp: install it, or give its path; export.precision: q4_1 and the others without a k need "
            "none"
        )
    return found


def quantise(program: str, source: Path, target: Path, precision: str) -> str:
    """Write `source`, a GGUF file, to `target` at a precision of K_QUANTS.

    Blocks are of 256 weights; a matrix whose rows are no multiple of that gets another format. Returns what
    the program says of those, or nothing. Raises InputError with the end of what it said where it fails.
    """
    command = [program, str(source), str(target), K_QUANTS[precision]]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise SettingError(f"export.llama_quantize: {program}: cannot be run: {error}") from None
    if done.returncode or not target.exists():
        check_room(done.stdout, target)
        said = (done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise InputError(f"{source}: {program} did not quantise it to {precision}: {said}")
    check_finite(target, precision)
    other = FALLBACK.search(done.stdout)
    return f"{other[1]} of {other[2]} tensors in another format, for want of rows of 256" if other else ""
