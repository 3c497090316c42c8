"""`secateurs.prune`: from a model and text to a smaller checkpoint, which the program calls too."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from secateurs.arguments import order_of
from secateurs.errors import InputError
from secateurs.files.full_disk import check_writable

if TYPE_CHECKING:
    from secateurs.command import Result


class Options(TypedDict, total=False):
    """What can be asked for beside a model, its text and where the result goes; `secateurs prune --help` has
    what each means, and what it is where it is left out.

    settings: those that `--set` takes, by their keys in params.yaml: {"mask.metric": "wanda"}.
    """

    sparsity: float | None
    device: str
    tokens: int
    export: str | None
    recover: str | None
    eval: str | None
    limit: int
    run_generated_code: bool
    settings: Mapping[str, Any] | tuple[str, ...]


def prune(
    model: str | Path,
    text: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    say: Callable[[str], object] = print,
    **options: Unpack[Options],
) -> "Result":
    """Prune a model by text and write `out`: a checkpoint that is proved to load, with a model card.

    model: a folder, a GGUF file or an id on the hub. text: PATH or PATH:FIELD of each domain, as `--text` has
    it. say: what is done, and a verdict at the end, goes there line by line. Raises InputError for what
    cannot be used; nothing is left under the final names then.
    """
    given = [text] if isinstance(text, str | Path) else text
    order, out = order_of(model=str(model), text=tuple(map(str, given)), **options), Path(out)
    if out.exists():
        raise InputError(f"--out: {out}: is there already; name another folder, or delete it")
    gguf = out.with_name(f"{out.name}.gguf")
    if order.precision is not None and gguf.exists():
        raise InputError(f"--export: {gguf}: is there already; name another --out, or delete it")
    check_writable(out)
    texts = ", ".join(source.domain for source in order.sources)
    say(f"{order.model} is pruned by {texts} into {out} …")
    # Not at the top, because torch takes seconds, and a wrong argument needs none of it.
    from secateurs.command import prune_to

    return prune_to(order, out, say)
