"""YAML 1.2 of plain values, as people write params.yaml; anything else is one InputError with its line."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from secateurs.errors import InputError
from secateurs.settings.problems import shown

# What a value that YAML takes for a number or a date may fail by when it becomes one.
_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)


class _ValueError(Exception):
    """A value, its line from 1, and what is wrong with it."""


class _TagError(Exception):
    """The line from 1 of a tag, and the tag."""


class _Plain(SafeConstructor):
    """ruamel's constructor, whose errors in a value say where it stands."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (YAMLError, _ValueError):
            raise
        except _UNREADABLE as error:
            raise _ValueError(node.start_mark.line + 1, node.value, error) from None


class _Untagged(Composer):
    """ruamel's composer, which stops at a tag."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _TagError(event.start_mark.line + 1, str(tag).replace("tag:yaml.org,2002:", "!!"))
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """The value of a YAML file. Raises InputError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the project's root") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    return parse_yaml(str(path), text)


def parse_yaml(where: str, text: str) -> Any:
    """The value of a YAML text. Raises InputError naming `where` and the line for whatever is no plain value.

    Tags (`!!int`) are refused: they make of a value something that its text does not say.
    """
    # The parser in C says the same in other words.
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor, yaml.Composer = _Plain, _Untagged
    try:
        return yaml.load(text)
    except _TagError as error:
        line, tag = error.args
        raise InputError(
            f"{where}:{line}: {tag}: tags are not read; write the value alone, and text that looks like a "
            "number in quotes"
        ) from None
    except _ValueError as error:
        line, value, reason = error.args
        said = str(reason).split(";")[0]
        raise InputError(
            f"{where}:{line}: {shown(value)}: cannot be read: {said}; correct it, or put text in quotes"
        ) from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be read; see params.yaml of the project") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = "" if mark is None else f":{mark.line + 1}"
        said = str(error.problem or error.context).splitlines()[0]
        raise InputError(f"{where}{line}: not valid YAML: {said}; correct the line") from None
    except YAMLError as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(f"{where}: not valid YAML: {said}; correct it") from None
