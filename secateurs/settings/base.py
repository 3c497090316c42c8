"""What the groups of params.yaml are made of."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from secateurs.errors import SettingError

# Files are named after it: with what they add it stays below the 255 bytes that systems allow.
_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,99}$"
_SHA256 = r"^[0-9a-f]{64}$"
_HUB_ID = r"^[A-Za-z0-9][\w.-]*/[\w.-]+$"
_PACKAGE = r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$"
# One line of text: nothing in it begins another one, in a model card's front matter or elsewhere.
_LINE = r"^[^\p{Cc}\p{Zl}\p{Zp}]+$"
DEVICE = r"^(auto|cpu|mps|sharded|cuda(:[0-9]{1,3})?)$"
# Numbers, names and addresses: nothing that names another program.
_LAUNCH_OPTION = (
    r" --standalone| --(nnodes|nproc[-_]per[-_]node|node[-_]rank|master[-_]addr|master[-_]port"
    r"|max[-_]restarts|rdzv[-_]backend|rdzv[-_]endpoint|rdzv[-_]id)[ =][\w.:][\w.:-]*"
)
LAUNCH = rf"^python( -m torch\.distributed\.run({_LAUNCH_OPTION})*)?$"
# What a value that does not match must be, for the person who wrote it.
MEANINGS = {
    _NAME: "must be a name of at most 100 letters, digits, _ and -, beginning with a letter",
    _SHA256: "must be a sha256, 64 digits of 0-9 and a-f",
    _HUB_ID: "must be an id on the hub, `owner/name`",
    _PACKAGE: "must be a package with its version, `name==1.2.3`",
    _LINE: "must be one line of text, without control characters",
    DEVICE: "must be auto, cpu, mps, sharded, cuda or cuda:NUMBER",
    LAUNCH: "must be `python`, or `python -m torch.distributed.run` with options for processes and nodes",
}
Name = Annotated[str, Field(pattern=_NAME)]
Sha256 = Annotated[str, Field(pattern=_SHA256)]
HubId = Annotated[str, Field(pattern=_HUB_ID)]
Package = Annotated[str, Field(pattern=_PACKAGE)]
Line = Annotated[str, Field(pattern=_LINE)]
# No count is as large: beyond, a program overflows somewhere instead of running out of time.
MOST = 2**31 - 1
Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
# Weights and their bytes, of which a model of 7B has more.
Size = Annotated[int, Field(ge=1, le=2**63 - 1)]
# The smallest range among the generators that are seeded: that of numpy, which lm-eval uses.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _null(value: Any) -> Any:
    return None if value == "" else value


# Of a key that may be absent: an empty text says no more than null does.
Empty = BeforeValidator(_null)


class Group(BaseModel):
    """A mapping of params.yaml: strict types, finite numbers, no unknown keys, immutable.

    A key that may be null may be absent, which says the same.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def changed(self, **values: Any) -> Self:
        """The same group with some values changed, checked as the first ones were."""
        return type(self).model_validate(dict(self) | values)

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        optional = (
            name for name, field in cls.model_fields.items() if type(None) in get_args(field.annotation)
        )
        return {**dict.fromkeys(optional), **data}


def put_by_key(
    values: dict[str, Any], changes: Mapping[str, Any], no_group: Callable[[str, str], str]
) -> None:
    """Put values into nested mappings, in place, by their keys in params.yaml: {"prune.sparsity": 0.3, ...}.

    Raises SettingError for a key of which a part is no group: no_group(key, part) says why.
    """
    for key, value in changes.items():
        *groups, last = key.split(".")
        group = values
        for name in groups:
            if not isinstance(group.get(name), dict):
                raise SettingError(f"{key}: {value!r}: {no_group(key, name)}")
            group = group[name]
        group[last] = value
