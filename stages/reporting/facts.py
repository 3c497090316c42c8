"""What data/metrics.json, and the timings where there are any, say for a verdict."""

from secateurs.evaluation.verdict import Facts
from stages.reporting.metrics import Metrics
from stages.reporting.speed import Timings, speed


def facts(
    metrics: Metrics, quantised: str | None, recovered: bool = False, timings: Timings | None = None
) -> Facts:
    """The facts of a run. quantised: what the dense weights were dequantised from (origin.quantisation)."""
    dense, pruned = metrics["dense"], metrics["pruned"]
    ratios = dict(metrics["ratio"]["perplexity"])
    together = ratios.pop("geometric_mean")
    apart = metrics["difference"]["accuracy"]
    return Facts(
        parameters=(dense["parameters"], pruned["parameters"]),
        weight_bytes=(dense["weight_bytes"], pruned["weight_bytes"]),
        macs_per_token=(dense["macs_per_token"], pruned["macs_per_token"]),
        perplexity=together,
        worst=max(ratios.items(), key=lambda one: one[1]) if len(ratios) > 1 else None,
        accuracy=(apart["mean"], apart["mean_stderr"]) if "mean" in apart else None,
        prefill=speed(timings, "prefill") if timings else None,
        decode=speed(timings, "decode") if timings else None,
        quantised=quantised,
        recovered=recovered,
    )
