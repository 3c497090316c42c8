"""Rounds along a curve, and params.yaml rewritten to have them."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from stages.params.rounds import DENSE
from stages.params.yaml_file import read_yaml

CURVES = {
    "linear": lambda time: time,
    # Most in the first rounds, when removing costs little, and less in each later one: Zhu and Gupta 2017.
    "cubic": lambda time: 1 - (1 - time) ** 3,
}


def rewrite_rounds(path: Path, count: int, curve: str) -> None:
    """Replace `rounds` by r1 to r<count> along a curve from 0 to 1; everything else stays as written."""
    values = read_yaml(path)
    for group in ("rounds", "surgery"):
        if not isinstance(values, dict) or not isinstance(values.get(group), dict):
            raise InputError(f"{path}: {group}: no such group; fetch the file again")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    data: Any = yaml.load(path.read_text(encoding="utf-8"))
    old = data["rounds"]
    rounds = chained_rounds(count, curve)
    for name, settings in rounds.items():
        item = CommentedMap(settings)
        item.fa.set_flow_style()
        old[name] = item
    for name in [name for name in old if name not in rounds]:
        del old[name]
    data["surgery"]["after"] = list(rounds)[-1]
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)


def chained_rounds(count: int, curve: str = "linear") -> dict[str, dict[str, Any]]:
    """`rounds` of params.yaml: r1 to r<count>, each after the one before, along a curve from 0 to 1."""
    names = [f"r{number}" for number in range(1, count + 1)]
    return {
        name: {"after": after, "progress": round(CURVES[curve](number / count), 4)}
        for number, (name, after) in enumerate(zip(names, [DENSE, *names], strict=False), 1)
    }
