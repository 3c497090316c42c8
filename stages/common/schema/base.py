"""What the groups of params.yaml are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")]
Package = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+$")]
# One line of text: nothing in it begins another one, in a model card's front matter or elsewhere.
Line = Annotated[str, Field(pattern=r"^[^\p{Cc}\p{Zl}\p{Zp}]+$")]
# No count is as large: beyond, a program overflows somewhere instead of running out of time.
MOST = 2**31 - 1
Count = Annotated[int, Field(ge=0, le=MOST)]
Positive = Annotated[int, Field(ge=1, le=MOST)]
# The smallest range among the generators that are seeded: that of numpy, which lm-eval uses.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Group(BaseModel):
    """A mapping of params.yaml: strict types, finite numbers, no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
