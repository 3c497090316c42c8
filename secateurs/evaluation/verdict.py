"""What a pruned model is worth, in one sentence, and what to do about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from secateurs.evaluation.units import count, percent, size

# Perplexity relative to dense, and a matter of judgement: below the first, other text moves it as much. Of
# Qwen2.5-Coder-1.5B without 20% of its decoder it is 1.19, without 40% it is 1.59 (README).
LOSS, TOO_MUCH = 1.1, 1.3
# Dense models of fewer parameters lose far more at the same share than those that are worth shipping.
DEMONSTRATION = 300e6
# Where the standard error of the accuracies' difference is more than this, the items are too few for advice.
COARSE = 0.02
# Two standard errors: beyond them, a difference is called one.
ERRORS = 2
# Bits of a weight in 4-bit formats of llama.cpp, scales included (18 bytes for 32 weights).
FOUR_BITS = 4.5


@dataclass(frozen=True)
class Speed:
    """Time of a phase relative to the dense model's: the median of pairs timed in turn, and their range."""

    ratio: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class Facts:
    """What is known of a pruned model beside its dense one; pairs are (dense, pruned).

    perplexity: ratio of the geometric means over held-out domains, None where there is no held-out text.
    worst: the domain that lost most, and its ratio. accuracy: mean of pruned - dense on the same items, and
    its standard error; None without tasks. quantised: what the dense weights were dequantised from.
    """

    parameters: tuple[int, int]
    weight_bytes: tuple[int, int]
    macs_per_token: tuple[int, int]
    perplexity: float | None
    worst: tuple[str, float] | None = None
    accuracy: tuple[float, float] | None = None
    prefill: Speed | None = None
    decode: Speed | None = None
    quantised: str | None = None
    recovered: bool = False


def verdict(facts: Facts) -> str:
    """One sentence: what became smaller and faster, what it cost, and what that makes of the model."""
    parts = [_less(facts.weight_bytes, "smaller", "larger")]
    parts.append(_less(facts.macs_per_token, "fewer multiply-adds a token", "more multiply-adds a token"))
    for phase, speed in (("prefill", facts.prefill), ("decode", facts.decode)):
        if speed is not None:
            parts.append(_faster(phase, speed))
    if facts.perplexity is not None:
        parts.append(f"perplexity {percent(facts.perplexity)}")
    if facts.accuracy is not None:
        parts.append(_accuracy(*facts.accuracy))
    return f"{', '.join(parts)}: {_conclusion(facts)}."


def advice(facts: Facts) -> list[str]:
    """Sentences that say what to do next, the most pressing first; none where nothing is to be done."""
    return list(_advice(facts))


def _less(pair: tuple[int, int], less: str, more: str) -> str:
    dense, pruned = pair
    change = pruned / dense - 1
    return f"{percent(1 + abs(change)).lstrip('+')} {less if change <= 0 else more}"


def _faster(phase: str, speed: Speed) -> str:
    if speed.lowest <= 1 <= speed.highest:
        return f"{phase} as fast within noise"
    return f"{phase} {'in' if speed.ratio < 1 else 'takes'} {_time(speed.ratio)} time"


def _time(ratio: float) -> str:
    return f"{percent(1 + abs(ratio - 1)).lstrip('+')} {'less' if ratio < 1 else 'more'}"


def _accuracy(difference: float, error: float) -> str:
    points = f"{100 * difference:+.1f} ± {100 * error:.1f} points"
    if abs(difference) <= ERRORS * error:
        return f"accuracy within noise ({points})"
    return f"accuracy {points}"


def _lost(facts: Facts) -> bool:
    """Whether accuracy fell by more than chance explains."""
    return facts.accuracy is not None and facts.accuracy[0] < -ERRORS * facts.accuracy[1]


def _conclusion(facts: Facts) -> str:
    dense = facts.parameters[0]
    if dense < DEMONSTRATION:
        return f"a demonstration on {count(dense).replace(' ', '')}"
    if facts.perplexity is None and facts.accuracy is None:
        return "nothing says yet how good it is"
    if facts.perplexity is not None and facts.perplexity > TOO_MUCH:
        return "too much is lost to ship it"
    if (facts.perplexity is not None and facts.perplexity > LOSS) or _lost(facts):
        return "what is lost shows" if facts.recovered else "recover it before it ships"
    return "worth a trial on your own task"


def _advice(facts: Facts) -> Iterator[str]:
    dense, pruned = facts.parameters
    if facts.perplexity is None and facts.accuracy is None:
        yield "Evaluate it before use: there was neither held-out text nor a task."
    elif (facts.perplexity is not None and facts.perplexity > LOSS) or _lost(facts):
        yield (
            "Train it longer on more text, or remove less."
            if facts.recovered
            else "Recover it (training by the dense model gives part of the loss back), or remove less."
        )
    if facts.worst is not None and facts.perplexity is not None and facts.worst[1] > 1.1 * facts.perplexity:
        name, ratio = facts.worst
        most = f"{name.capitalize()} loses most (perplexity {percent(ratio)})"
        yield f"{most}: weigh it more if it is your use."
    if facts.accuracy is not None and facts.accuracy[1] > COARSE:
        points = 100 * ERRORS * facts.accuracy[1]
        yield f"The tasks have too few items to show a change of less than {points:.0f} points: score more."
    four_bits = [size(number * FOUR_BITS / 8) for number in (dense, pruned)]
    origin = f"these dense weights were dequantised from {facts.quantised}; " if facts.quantised else ""
    yield (
        f"If size is what counts, quantise first: {origin}at 4 bits the dense model takes about "
        f"{four_bits[0]}, against {size(facts.weight_bytes[1])} here, and the pruned one about "
        f"{four_bits[1]}. Pruning saves multiply-adds, which 4 bits do not: for long prompts, large batches, "
        "or on top of them."
    )
