"""The types of params.yaml for what the stages do, a class for each group."""

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
    sequences: Positive
    gradients: bool
    checkpointing: bool
    batch_size: Positive


class Mask(Group):
    metric: Metric
    seed: Seed


# The ways to say how much goes, of which `prune` has one.
TARGETS = ("sparsity", "parameters", "memory")


class PruneMemory(Group):
    bytes: Size
    precision: Literal["float32", "bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class Prune(Group):
    """A target that is None is one that the file does not give; it is never written."""

    sparsity: Annotated[float, Field(gt=0, lt=1)] | None
    parameters: Size | None
    memory: PruneMemory | None
    widths: Literal["uniform", "per_layer"]
    width_multiple: Positive
    floor: Annotated[float, Field(gt=0, lt=1)]
    sites: Annotated[list[KindName], Field(min_length=1)]

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}

    def problems(self) -> list[str]:
        """What is wrong with the group beyond the types of its values, a line each."""
        targets = [name for name in TARGETS if getattr(self, name) is not None]
        problems = []
        if not targets:
            problems.append(f"prune: no target; add one of {', '.join(TARGETS)}, such as `sparsity: 0.2`")
        if len(targets) > 1:
            given = ", ".join(f"prune.{name}: {self.model_dump()[name]}" for name in targets)
            problems.append(f"{given}: only one target can be given; remove the others (`-S '~prune.KEY'`)")
        if len(set(self.sites)) != len(self.sites):
            problems.append(f"prune.sites: {self.sites}: a site is named twice")
        if len(self.sites) > 1:
            problems += [f"prune.sites: {self.sites}: {reason}" for reason in exclusions(self.sites)]
        return problems


class Round(Group):
    after: Name
    progress: Annotated[float, Field(gt=0, le=1)]


class Reconstruct(Group):
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive


class Surgery(Group):
    after: Name
    heal: Literal["none", "least_squares", "residual", "auto"]
    alpha: Annotated[float, Field(ge=0, le=1)]
    ridge: Annotated[float, Field(gt=0, le=1e6)]
    sequences: Positive
    choice_sequences: Positive
    batch_size: Positive
    reconstruct: Reconstruct


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


class Recover(Group):
    own: OwnText
    mixture: RecoverMixture
    left_out: Positive
    weights: Literal["scales", "all"]
    scales_first: ScalesFirst
    steps: Count
    batch_size: Positive
    micro_batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip: Annotated[float, Field(gt=0)]
    seed: Seed
    check_every: Positive
    patience: Positive

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
