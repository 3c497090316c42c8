"""The README.md that travels with a pruned checkpoint."""

from typing import Any

from stages.params import HubModel, PackageModel, Params


def model_card(
    params: Params,
    history: list[dict[str, Any]],
    sequence_length: int,
    before: tuple[int, int],
    after: tuple[int, int],
) -> str:
    """Markdown with the hub's front matter.

    history: the entries of the rounds; before, after: parameters of the decoder layers and of the whole
    model, dense and pruned.
    """
    model, surgery, last = params.model, params.surgery, history[-1]
    prune = last["prune"]
    mixture = ", ".join(f"{name} {weight:g}" for name, weight in params.mixture.items() if weight)
    base = {"base_model": model.id} if isinstance(model, HubModel) else {}
    front = {
        "license": model.licence,
        **base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
    }
    lines = ["---", *(f"{key}: {value}" for key, value in front.items()), "tags:", "- pruned", "---", ""]
    lines += [
        f"# {model.name}, pruned by {1 - after[0] / before[0]:.0%}",
        "",
        f"{model.name} ({_origin(params)}) with whole channels removed by Secateurs.",
        f"The base model's licence, {model.licence}, applies. Evaluate it on your own task before use.",
        "",
        "| | dense | pruned | ratio |",
        "| --- | ---: | ---: | ---: |",
        f"| parameters | {before[1]:,} | {after[1]:,} | {after[1] / before[1]:.3f} |",
        f"| of which decoder layers | {before[0]:,} | {after[0]:,} | {after[0] / before[0]:.3f} |",
        "",
        "## How it was made",
        "",
        f"- {len(history)} rounds of capture and mask by `{last['metric']}`, {prune['widths']} widths "
        f"(multiples of {prune['width_multiple']}), sites: {', '.join(prune['sites'])}",
        f"- calibration: {max(last['sequences'].values())} sequences of {sequence_length} tokens "
        f"from each of {sum(weight > 0 for weight in params.mixture.values())} domains ({mixture})",
        f"- healing: `{surgery.heal}`, alpha {surgery.alpha:g}, ridge {surgery.ridge:g}, "
        f"{surgery.sequences} sequences a domain; no training end to end",
        "",
        "| round | decoder removed | calibration loss before it, mean over domains |",
        "| --- | ---: | ---: |",
    ]
    for entry in history:
        loss = sum(entry["loss"].values()) / len(entry["loss"])
        lines.append(f"| {entry['round']} | {entry['sparsity']:.1%} | {loss:.3f} nats |")
    return "\n".join(lines) + "\n"


def _origin(params: Params) -> str:
    model = params.model
    if isinstance(model, HubModel):
        return f"hub id {model.id} at revision {model.revision}"
    if isinstance(model, PackageModel):
        return f"{model.member.split('/')[-1]} of the package {model.package}"
    return f"local files in {model.path}"
