"""The settings of the method. They have defaults, for who calls the library; params.yaml gives every key."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
)

from secateurs.kinds.registry import NAMES, exclusions
from secateurs.settings.base import Count, Group, Name, Positive, Seed, Size

Metric = Literal[
    "fisher", "taylor", "wanda", "fluctuation", "magnitude", "influence", "reap", "frequency", "random"
]
GRADIENT_METRICS: frozenset[str] = frozenset({"fisher", "taylor"})


# The rows of the vocabulary among the kinds of `prune.auto`: they go from the model's ends, not from a layer.
VOCABULARY = "vocabulary"
AUTO: Literal["auto"] = "auto"


def _auto_or(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    return AUTO if value == AUTO else check(value)


# As the registry has them. A union would say of a wrong kind that it is not `auto` either.
if TYPE_CHECKING:
    KindName = str
    CandidateName = str
    Sites = list[str] | Literal["auto"]
else:
    KindName = Literal[NAMES]
    CandidateName = Literal[(VOCABULARY, *NAMES)]
    Sites = Annotated[list[KindName], WrapValidator(_auto_or), PlainSerializer(lambda sites: sites)]


class Capture(Group):
    """How statistics are taken: sequences of each domain in a round, with a backward pass or without.

    checkpointing: activations are computed anew in the backward pass. batch_size: where the search for one
    that fits in memory starts. layers: resident, all of them on the device, or streamed, read from the
    checkpoint one at a time (measure/streamed.py).
    """

    sequences: Positive = 5
    gradients: bool = True
    checkpointing: bool = False
    batch_size: Positive = 2
    layers: Literal["resident", "streamed"] = "resident"


class Mask(Group):
    """How statistics become scores, and the scores of domains one (choose/mixing.py).

    metric: of the kinds' scores. seed: of the metric `random`. own: the share of a site's units that every
    domain keeps of its own best ones, as long as the budget allows. reweight: how strongly a domain's weight
    rises with what it lost in the rounds before; 0 leaves the weights as they are. left_out: sequences of
    each domain, its last ones, on which each round takes what was lost so far; 0 takes nothing.
    """

    metric: Metric = "taylor"
    seed: Seed = 0
    combine: Literal["sum", "worst", "ranks"] = "sum"
    own: Annotated[float, Field(ge=0, lt=1)] = 0.0
    reweight: Annotated[float, Field(ge=0, le=100)] = 0.0
    left_out: Count = 0


# The ways to say how much goes, of which `prune` has one.
TARGETS = ("sparsity", "parameters", "memory", "multiply_adds")
NO_TARGET: dict[str, Any] = dict.fromkeys(TARGETS)
# What is left of a vocabulary is a multiple of it: matrix products take rows in tiles.
ROWS_MULTIPLE = 64


class Memory(Group):
    """What all weights together may take."""

    bytes: Size
    precision: Literal["float32", "bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class Vocabulary(Group):
    """rows: how many tokens are left, 0 for all. keep, leave: scripts of which all tokens stay, or none."""

    rows: Count = 0
    keep: list[str] = Field(default_factory=list)
    leave: list[str] = Field(default_factory=list)

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        problems = []
        if self.rows % ROWS_MULTIPLE:
            below = self.rows // ROWS_MULTIPLE * ROWS_MULTIPLE
            problems.append(
                f"prune.vocabulary.rows: {self.rows}: must be a multiple of {ROWS_MULTIPLE}, such as {below}"
            )
        for script in sorted(set(self.keep) & set(self.leave)):
            problems.append(f"prune.vocabulary: {script} stands under both keep and leave; choose one")
        return problems


class Auto(Group):
    """How `sites: auto` finds what costs least (secateurs/kind_trials.py).

    kinds: among which it chooses. trials: how many amounts of each kind are tried, up to the whole target.
    sequences: of each domain, to heal every trial by. left_out: of each domain, its last ones, on which is
    taken what a trial lost. over: whether the mean over domains decides, or the domain that lost most.
    """

    kinds: Annotated[list[CandidateName], Field(min_length=1)] = Field(
        default_factory=lambda: [VOCABULARY, "mlp", "attention", "experts", "blocks"]
    )
    trials: Positive = 3
    sequences: Positive = 8
    left_out: Positive = 2
    over: Literal["mean", "worst"] = "mean"


class Prune(Group):
    """How much goes, and of what. Exactly one of TARGETS is given; the others are None.

    sparsity: share of the decoder layers' parameters to remove. parameters: how many the whole model may have
    left. multiply_adds: how many a token may take in decoder and head (cost.macs_per_token). widths: one
    width for all layers, or each its own. width_multiple: kept mlp widths are multiples of it. floor: the
    smallest fraction of its units that a site keeps. sites: the kinds that go, or AUTO, of which
    kind_trials.choose_kinds makes such a list; none, and then no target, where only rows of the vocabulary
    do. shares: how much each of several kinds gives of what goes, relative to each other; empty: what their
    scores say. Targets of the whole model count without the rows that go.
    """

    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    parameters: Size | None = None
    memory: Memory | None = None
    multiply_adds: Size | None = None
    widths: Literal["uniform", "per_layer"] = "uniform"
    width_multiple: Positive = 32
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    sites: Sites = Field(default_factory=lambda: ["mlp"])
    shares: dict[KindName, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    auto: Auto = Auto()
    vocabulary: Vocabulary = Vocabulary()

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}

    @property
    def takes_tokens(self) -> bool:
        """Whether rows of the vocabulary go, or may by the trials of AUTO."""
        return self.vocabulary.rows > 0 or (self.sites == AUTO and VOCABULARY in self.auto.kinds)

    def written(self) -> dict[str, Any]:
        """What a round's history says of it; shares where they are given, rows where some go."""
        left_out = {"vocabulary", "auto", *(() if self.shares else ("shares",))}
        given = self.model_dump(exclude=left_out)
        return given | ({"rows": self.vocabulary.rows} if self.vocabulary.rows else {})

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        targets = [name for name in TARGETS if getattr(self, name) is not None]
        problems = []
        if not self.sites and (targets or not self.vocabulary.rows):
            problems.append(
                "prune.sites: []: then no channels go, so that prune.vocabulary.rows must be above 0 and "
                f"prune can have no {', '.join(TARGETS)}; name a kind of site, or take those away"
            )
        elif self.sites and not targets:
            problems.append(f"prune: no target; add one of {', '.join(TARGETS)}, such as `sparsity: 0.2`")
        if len(targets) > 1:
            given = ", ".join(f"prune.{name}: {self.model_dump()[name]}" for name in targets)
            problems.append(f"{given}: only one target can be given; remove the others (`-S '~prune.KEY'`)")
        if self.sites != AUTO:
            if len(set(self.sites)) != len(self.sites):
                problems.append(f"prune.sites: {self.sites}: a site is named twice")
            if len(self.sites) > 1:
                problems += [f"prune.sites: {self.sites}: {reason}" for reason in exclusions(self.sites)]
        if self.shares and (self.sites == AUTO or set(self.shares) != set(self.sites)):
            problems.append(
                f"prune.shares: {self.shares}: must have a share for each of prune.sites: {self.sites}, and "
                "for nothing else; with auto, or to go by scores, set it to {}"
            )
        return [*problems, *self.vocabulary.problems()]


class Round(Group):
    after: Name
    progress: Annotated[float, Field(gt=0, le=1)]


class Reconstruct(Group):
    """The training of each layer against its dense original, after its refits.

    epochs: passes over the healing text for each layer; 0 leaves it out. learning_rate: at its peak.
    batch_size: sequences of a step, which is made of whole batches of the surgery.
    """

    epochs: Count = 0
    learning_rate: Annotated[float, Field(gt=0)] = 0.002
    batch_size: Positive = 16


class Tokens(Group):
    """The training of rows into which the tokens fall that `prune.vocabulary` takes (recover/lost_tokens.py).

    steps: 0 trains nothing. learning_rate: at its peak. batch_size: sequences of a step.
    """

    steps: Count = 0
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    batch_size: Positive = 8


class Surgery(Group):
    """How the cut model is healed, and by how many sequences of each domain, in batches of `batch_size`.

    heal: a name of heal.methods.METHODS, `none`, or `auto`, which chooses among those. alpha: the fraction of
    the residual stream's error that a refit corrects. ridge: see ridge.ridge_refit. choice_sequences: as many
    of each domain, after those that heal, make the choice of `auto`.
    """

    heal: Literal["none", "least_squares", "residual", "auto"] = "auto"
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.9
    ridge: Annotated[float, Field(gt=0, le=1e6)] = 0.15
    sequences: Positive = 22
    choice_sequences: Positive = 2
    batch_size: Positive = 8
    reconstruct: Reconstruct = Reconstruct()
    tokens: Tokens = Tokens()

    @property
    def chooses(self) -> bool:
        """Whether the `choice_sequences` are read: by `auto`, and to judge the training of rows."""
        return self.method == "auto" or self.tokens.steps > 0

    @property
    def method(self) -> str:
        """The way of healing: `heal`, but with reconstruction, which starts from residual, auto is that."""
        return "residual" if self.heal == "auto" and self.reconstruct.epochs else self.heal
