"""Tool: write docs/families.md, which says of every model_type of transformers what can be pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from secateurs.checkpoints.family_proof import unproved
from secateurs.errors import InputError
from secateurs.families.discover import family_of
from secateurs.families.examples import example_config
from secateurs.families.mixtures import NO_EXPERTS
from secateurs.gguf.converter import COMPARED
from stages.common.console import stage

PAGE = Path("docs/families.md")
KINDS = ("mlp", "attention", "query_heads", "experts")
HEAD = """\
# Families

What can be pruned of each of the {count} causal language models of transformers {version}, by `model_type`.
No list is kept by hand: `python -m stages.families` writes this page. For each type a tiny random model
of an [example config](../secateurs/families/examples.py) is built. Its channels and heads are
[found](../secateurs/families/discover.py) by what depends on what. A kind counts as pruned once cutting
half of its units is [proved](../secateurs/checkpoints/family_proof.py): the cut model computes what the
masked one does (of experts, one whose router gives them minus infinity), what is saved loads,
embeddings stay tied, and text comes out the same with the cache as without. The stock class loads it, but
where it fixes the width of its mlp (BLOOM, MPT, GPT-NeoX Japanese): there a modelling file comes with it.
Your own config is proved in the same way before anything runs; `python -m stages.plan` says what was found
in it.

**{mlp} of {count} are pruned by channels of mlps or experts**, {attention} by KV groups, {query_heads}
by query heads (a model whose KV groups have one query head each, as some examples have, has none to give),
{experts} by whole experts.

`healed by`: *residual* corrects the error that the residual stream has gathered ([method](method.md));
*least squares* where the place in the stream was not found; *nothing* where layers hand each other more
than the stream. `GGUF`: whether an export was compared with llama.cpp, token by token.

| model_type | mlp | attention | query_heads | experts | healed by | GGUF |
| --- | --- | --- | --- | --- | --- | --- |
"""
REFUSED = """
## Not pruned

| model_type | why |
| --- | --- |
"""
EXPERTS_REFUSED = """
## Mixtures whose experts cannot go

| model_type | why |
| --- | --- |
"""


@dataclass(frozen=True)
class Row:
    """One model_type. reasons: by kind, why nothing of it can go; None if it was proved that it can."""

    model_type: str
    reasons: dict[str, str | None]
    healing: str

    @property
    def pruned(self) -> bool:
        """Whether any kind can go."""
        return None in self.reasons.values()


def row_of(model_type: str) -> Row:
    """What was proved of an example config of the type."""
    try:
        config = example_config(model_type)
        reasons = {kind: unproved(config, kind) for kind in KINDS}
        family = family_of(config)
    except InputError as error:
        said = str(error).partition(f"model_type: {model_type}: ")[2] or str(error)
        return Row(model_type, dict.fromkeys(KINDS, said), "")
    except Exception as error:
        # The class refuses its own defaults, or needs a package that is not there.
        said = " ".join(str(error).split()) or type(error).__name__
        return Row(model_type, dict.fromkeys(KINDS, f"its example config is refused: {said}"), "")
    mlps = [mlp for layer in family.layers for mlp in layer.mlps]
    known = {mlp.entry is not None for mlp in mlps}
    residual = {frozenset({True}): "residual", frozenset({False}): "least squares"}
    healing = residual.get(frozenset(known), "residual, least squares") if family.apart else "nothing"
    return Row(model_type, reasons, healing)


def page(rows: Sequence[Row]) -> str:
    """The whole page."""
    counts = {kind: sum(row.reasons[kind] is None for row in rows) for kind in KINDS}
    lines = [HEAD.format(count=len(rows), version=transformers.__version__, **counts)]
    for row in (one for one in rows if one.pruned):
        kinds = " | ".join("yes" if row.reasons[kind] is None else "" for kind in KINDS)
        gguf = "yes" if row.model_type in COMPARED else ""
        lines.append(f"| {row.model_type} | {kinds} | {row.healing} | {gguf} |\n")
    lines.append(REFUSED)
    lines += [_refused(row, "mlp") for row in rows if row.reasons["mlp"] is not None]
    lines.append(EXPERTS_REFUSED)
    lines += [
        _refused(row, "experts")
        for row in rows
        if row.pruned and row.reasons["experts"] not in (None, NO_EXPERTS)
    ]
    return "".join(lines)


def _refused(row: Row, kind: str) -> str:
    text = str(row.reasons[kind]).replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")
    return f"| {row.model_type} | {text if len(text) < 240 else f'{text[:240]} …'} |\n"


@stage
def main() -> None:
    """Write docs/families.md; it takes a quarter of an hour on a core."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    types = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    rows = []
    for model_type in types:
        rows.append(row_of(model_type))
        shown = ", ".join(kind for kind in KINDS if rows[-1].reasons[kind] is None)
        click.echo(f"{model_type}: {shown or rows[-1].reasons['mlp']}")
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
