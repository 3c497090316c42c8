"""The settings of everything that is done, a class for each group of params.yaml.

Those of the method have defaults, for who calls the library; params.yaml gives every key (stages/params).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from secateurs.kinds.registry import NAMES, exclusions
from secateurs.settings.base import DEVICE, LAUNCH, MOST, Count, Group, Line, Name, Positive, Seed, Size

Metric = Literal["fisher", "taylor", "wanda", "fluctuation", "magnitude", "influence", "random"]
GRADIENT_METRICS: frozenset[str] = frozenset({"fisher", "taylor"})


# As the registry has them.
if TYPE_CHECKING:
    KindName = str
else:
    KindName = Literal[NAMES]

# Beyond these, logits that are divided by it are not finite, or all the same.
Temperature = Annotated[float, Field(ge=0.001, le=1000)]


class Written(Group):
    """How one turn of a dialogue is written."""

    tokens: Positive
    temperature: Temperature
    min_p: Annotated[float, Field(ge=0, lt=1)]


class Dialogues(Group):
    """Questions that the dense model writes, and its answers."""

    count: Positive
    question: Written
    answer: Written
    requests: Annotated[list[str], Field(min_length=1)]
    closings: Annotated[list[str], Field(min_length=1)]


class Sample(Group):
    documents: Positive
    tokens: Positive
    temperature: Temperature
    batch_size: Positive
    seed: Seed
    dialogues: Dialogues


class Corpus(Group):
    sequence_length: Annotated[int, Field(ge=8, le=MOST)]
    calibration_sequences: Positive
    heldout_sequences: Positive
    heldout_share: Annotated[float, Field(gt=0, lt=1)]
    ngram: Annotated[int, Field(ge=2, le=MOST)]
    seed: Seed


class Compute(Group):
    device: Annotated[str, Field(pattern=DEVICE)]
    dtype: Literal["float32", "bfloat16", "float16"]
    launch: Annotated[str, Field(pattern=LAUNCH)]


class Capture(Group):
    """How statistics are taken: sequences of each domain in a round, with a backward pass or without.

    checkpointing: activations are computed anew in the backward pass. batch_size: where the search for one
    that fits in memory starts.
    """

    sequences: Positive = 5
    gradients: bool = True
    checkpointing: bool = False
    batch_size: Positive = 2


class Mask(Group):
    """metric: of the kinds' scores. seed: of the metric `random`."""

    metric: Metric = "taylor"
    seed: Seed = 0


# The ways to say how much goes, of which `prune` has one.
TARGETS = ("sparsity", "parameters", "memory")
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


class Prune(Group):
    """How much goes, and of what. Exactly one of TARGETS is given; the others are None.

    sparsity: share of the decoder layers' parameters to remove. parameters: how many the whole model may
    have left. widths: one width for all layers, or each its own. width_multiple: kept mlp widths are
    multiples of it. floor: the smallest fraction of its units that a site keeps. sites: the kinds that go;
    none, and then no target, where only rows of the vocabulary do. Targets of the whole model count without
    those rows.
    """

    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    parameters: Size | None = None
    memory: Memory | None = None
    widths: Literal["uniform", "per_layer"] = "uniform"
    width_multiple: Positive = 32
    floor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    sites: list[KindName] = Field(default_factory=lambda: ["mlp"])
    vocabulary: Vocabulary = Vocabulary()

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}

    def written(self) -> dict[str, Any]:
        """What a round's history says of it; of the vocabulary the rows that are left, where some go."""
        given = self.model_dump(exclude={"vocabulary"})
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
        if len(set(self.sites)) != len(self.sites):
            problems.append(f"prune.sites: {self.sites}: a site is named twice")
        if len(self.sites) > 1:
            problems += [f"prune.sites: {self.sites}: {reason}" for reason in exclusions(self.sites)]
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

    @property
    def method(self) -> str:
        """The way of healing: `heal`, but with reconstruction, which starts from residual, auto is that."""
        return "residual" if self.heal == "auto" and self.reconstruct.epochs else self.heal


class Evaluate(Group):
    limit: Count
    batch_size: Positive
    seed: Seed
    prompt_tokens: Positive
    decode_tokens: Positive
    repeats: Positive
    chat_template: bool
    run_generated_code: bool


# What a recovery adds, by its key under `recover`. No domain of params.yaml has a space in its name.
OWN_KINDS = {"plain": "own text", "dialogues": "own dialogues"}


class OwnText(Group):
    """What the dense model writes itself for a recovery."""

    plain: Count
    dialogues: Count
    tokens: Positive
    temperature: Temperature
    batch_size: Positive
    seed: Seed


class RecoverMixture(Group):
    """How much each kind of text counts in a recovery."""

    calibration: Annotated[float, Field(ge=0)]
    plain: Annotated[float, Field(ge=0)]
    dialogues: Annotated[float, Field(ge=0)]


class ScalesFirst(Group):
    """A short training of scales before that of all weights."""

    steps: Count
    learning_rate: Annotated[float, Field(gt=0)]


class Training(Group):
    """How a recovery trains.

    weights: what is trained, `all` of the decoder (recovery.trainable) or `scales` (scales.scaled).
    steps: updates of the weights, at most.
    batch_size: sequences of a step.
    micro_batch_size: how many of them run at once; their gradients are added up.
    learning_rate: at its peak.
    warmup: the fraction of the steps over which the learning rate rises to its peak.
    clip: the largest norm of a gradient.
    seed: of the order of the sequences.
    check_every: steps between two checks on left-out text.
    patience: training ends after so many checks without a new lowest divergence.
    """

    weights: Literal["scales", "all"]
    steps: Count
    batch_size: Positive
    micro_batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(gt=0)]
    seed: Seed
    check_every: Positive
    patience: Positive


class Recover(Training):
    """A recovery: the text that it writes and leaves out, and the trainings, one after the other."""

    own: OwnText
    mixture: RecoverMixture
    left_out: Positive
    scales_first: ScalesFirst

    def trainings(self) -> list[Training]:
        """What is trained, one after the other: scales first where that is asked for."""
        given = {name: getattr(self, name) for name in Training.model_fields}
        if self.weights == "scales" or not self.scales_first.steps:
            return [Training(**given)]
        return [Training(**given | {"weights": "scales", **dict(self.scales_first)}), Training(**given)]

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        shares = self.mixture.model_dump()
        problems = [
            f"recover.mixture.{kind}: {shares[kind]}: recover.own.{kind}: 0 writes no such text"
            for kind in OWN_KINDS
            if shares[kind] and not getattr(self.own, kind)
        ]
        if not any(shares.values()):
            problems.append("recover.mixture: all weights are 0; at least one kind of text must count")
        return problems


class Export(Group):
    precision: Literal[
        "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0",
        "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k",
    ]  # fmt: skip
    llama_quantize: Line
