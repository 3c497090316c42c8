"""The settings of everything that is done, a class for each group of params.yaml.

Those of the method are in pruning.py, those of a recovery in recovery.py.
"""

from typing import Annotated, Literal

from pydantic import Field

from secateurs.settings.base import DEVICE, LAUNCH, MOST, Count, Group, Line, Positive, Seed

# Beyond these, logits that are divided by it are not finite, or all the same.
Temperature = Annotated[float, Field(ge=0.001, le=1000)]


class Written(Group):
    """How one turn of a dialogue is written."""

    tokens: Positive
    temperature: Temperature
    min_p: Annotated[float, Field(ge=0, lt=1)]


class Opening(Group):
    """How the first tokens of a question are drawn."""

    tokens: Count
    temperature: Temperature


class Dialogues(Group):
    """Questions that the dense model writes, and its answers."""

    count: Positive
    parts: Positive
    repeated: Annotated[float, Field(ge=0, le=1)]
    opening: Opening
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
    engine: Literal["ours", "vllm"]
    dialogues: Dialogues


class Corpus(Group):
    sequence_length: Annotated[int, Field(ge=8, le=MOST)]
    calibration_sequences: Positive
    heldout_sequences: Positive
    heldout_share: Annotated[float, Field(gt=0, lt=1)]
    # Longer ones than most items of tasks would find nothing in common.
    ngram: Annotated[int, Field(ge=2, le=100)]
    seed: Seed


class Compute(Group):
    device: Annotated[str, Field(pattern=DEVICE)]
    dtype: Literal["float32", "bfloat16", "float16"]
    launch: Annotated[str, Field(pattern=LAUNCH)]
    vllm_python: Line | None


class Evaluate(Group):
    limit: Count
    batch_size: Positive
    seed: Seed
    prompt_tokens: Positive
    decode_tokens: Positive
    repeats: Positive
    chat_template: bool
    run_generated_code: bool


class Export(Group):
    precision: Literal[
        "f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0",
        "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "q2_k",
    ]  # fmt: skip
    llama_quantize: Line
    converter: Line
