"""Hold the default run's metrics against the bar: exits with 1 and says what fell short."""

import json
import sys
from pathlib import Path

PERPLEXITY_RATIO = 1.46
SPARSITY = 0.2


def main() -> None:
    metrics = json.loads(Path("data/metrics.json").read_text(encoding="utf-8"))
    ratio = metrics["ratio"]["perplexity"]["geometric_mean"]
    removed = 1 - metrics["pruned"]["decoder_parameters"] / metrics["dense"]["decoder_parameters"]
    print(f"held-out perplexity, pruned / dense: {ratio:.3f} (at most {PERPLEXITY_RATIO})")
    print(f"decoder parameters removed: {removed:.1%} (at least {SPARSITY:.0%})")
    if not ratio <= PERPLEXITY_RATIO or not removed >= SPARSITY:
        sys.exit("the default run missed the bar")


if __name__ == "__main__":
    main()
