"""Presets: what a file of stages/presets sets, laid over the text of params.yaml, whose comments stay."""

import re
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node

from secateurs.errors import InputError
from stages.params.file import PARAMS_FILE, parse_params

FOLDER = Path("stages/presets")
# Whoever writes params.yaml names what is in these groups, so a preset has them whole, with their comments.
# Of any other group it has the values that differ.
WHOLE = ("model", "domains", "benchmarks", "mixture", "rounds")
# The key that names another file of the folder, which is laid over params.yaml first.
OVER = "over"
MADE = "# Preset {}, made by `python -m stages.preset {} > params.yaml`.\n"


def preset_names() -> list[str]:
    """The presets; a file whose name begins with an underscore holds what several have in common."""
    return sorted(file.stem for file in _folder().glob("[!_]*.yaml"))


def whole_preset(name: str, base: str) -> str:
    """The text of params.yaml, `base`, with a preset laid over it, and the preset's first comment on top.

    Raises InputError that names the preset where its keys or the whole do not fit params.yaml, and where
    `base` was made by a preset, because values of that one would stay.
    """
    if made := re.match(r"# Preset (\S+), made by", base):
        raise InputError(
            f"{PARAMS_FILE}: is the preset {made[1]}; presets are laid over the project's own file, so name "
            "a commit that has it: --of REVISION"
        )
    text = _read(name)
    about = re.match(r"(#.*\n)*", text)
    assert about
    whole = MADE.format(name, name) + about[0] + overlaid(base, text, f"{FOLDER}/{name}.yaml")
    parse_params(whole, FOLDER / f"{name}.yaml")
    return whole


def overlaid(base: str, text: str, where: str) -> str:
    """The text `base` of params.yaml with what the text of a preset sets; errors call the preset `where`."""
    new = _composed(text, where)
    below = _pairs(new).get(OVER)
    if below is not None:
        name = below[1].value
        base = overlaid(base, _read(name), f"{FOLDER}/{name}.yaml")
    edits = list(_edits(base, _composed(base, str(PARAMS_FILE)), text, new, f"{where}: "))
    for start, end, shown in sorted(edits, reverse=True):
        base = base[:start] + shown + base[end:]
    return base


def _edits(
    base: str, old: MappingNode, text: str, new: MappingNode, where: str
) -> Iterator[tuple[int, int, str]]:
    """Start and end in `base` of what is replaced, and what by, for every value of `new`."""
    there = _pairs(old)
    for key, (name, value) in _pairs(new).items():
        top = where.endswith(": ")
        if top and key == OVER:
            continue
        if key not in there:
            raise InputError(f"{where}{key}: not a key of params.yaml")
        old_name, old_value = there[key]
        if top and key in WHOLE:
            yield (
                old_name.end_mark.index,
                _end(base, _shown(old_name, old_value)),
                text[name.end_mark.index : _end(text, _shown(name, value))],
            )
        elif isinstance(value, MappingNode) and isinstance(old_value, MappingNode):
            yield from _edits(base, old_value, text, value, f"{where}{key}.")
        elif _shown(old_name, old_value) is old_name:
            start = base.index(":", old_name.end_mark.index) + 1
            yield start, start, f" {_own(text, value)}"
        else:
            start = old_value.start_mark.index
            yield start, start + len(_own(base, old_value)), _own(text, value)


def _own(text: str, node: Node) -> str:
    return text[node.start_mark.index : node.end_mark.index].rstrip()


def _end(text: str, node: Node) -> int:
    """Where a value ends with the comment beside its last line, in a text of which it is a part."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, _shown(*last) if isinstance(last, tuple) else last)
    end = node.start_mark.index + len(_own(text, node))
    line = text.find("\n", end)
    return len(text) if line < 0 else line


def _shown(name: Node, value: Node) -> Node:
    """The value, or its name where it is empty: such a value is said to stand where the next thing begins."""
    return name if value.start_mark.index == value.end_mark.index else value


def _pairs(node: MappingNode) -> dict[str, tuple[Node, Node]]:
    return {name.value: (name, value) for name, value in node.value}


def _composed(text: str, where: str) -> MappingNode:
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {error}") from None
    if not isinstance(node, MappingNode):
        raise InputError(f"{where}: not a mapping of groups")
    return node


def _read(name: str) -> str:
    return (_folder() / f"{name}.yaml").read_text(encoding="utf-8")


def _folder() -> Path:
    return Path(__file__).parents[2] / FOLDER
