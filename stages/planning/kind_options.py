"""What `prune.sites: auto` will try, as lines of text."""

from transformers import PreTrainedModel

from secateurs.choose.options import Options
from secateurs.choose.target import written
from secateurs.families.decoder import decoder_parameters
from stages.params.file import Params


def option_lines(params: Params, model: PreTrainedModel, found: Options) -> list[str]:
    """The trials, a line for each kind, and why others are left out."""
    total = decoder_parameters(model)
    count = len(found.rows) + sum(map(len, found.decoder.values()))
    lines = [f"Target prune.{written(params.prune)}. prune.sites: auto chooses by {count} trials:"]
    if found.rows:
        lines.append(f"  vocabulary: {', '.join(f'{rows:,}' for rows in found.rows)} rows left")
    for name, budgets in found.decoder.items():
        shares = ", ".join(f"{budget.sparsity:.1%}" for budget in budgets)
        lines.append(f"  {name}: {shares} of the decoder's {total:,} parameters")
    return [*lines, *(f"  not {name}: {reason}" for name, reason in found.unused.items())]
