"""Where a model and its text come from, as a model card and the report say it.

Apart from the model card of a checkpoint, so that stages which only write pages do without torch.
"""

import re
from pathlib import PurePath

from secateurs.settings.sources import Domain, HubDomain, HubModel, ModelSource, PackageDomain, PackageModel


def base_model(model: ModelSource) -> str | None:
    """The dense model's id on the hub, if it has one."""
    return model.id if isinstance(model, HubModel) else model.base_model


def data_set(domain: Domain) -> str:
    """Where a domain's text is from, in a word: an id on the hub, a package, or the name of a file."""
    if isinstance(domain, HubDomain):
        return domain.id
    return domain.package if isinstance(domain, PackageDomain) else PurePath(domain.path).name


def quantisation(model: ModelSource) -> str | None:
    """What the dense weights were quantised to before, as far as the file's name tells."""
    if isinstance(model, HubModel):
        return None
    path = model.member if isinstance(model, PackageModel) else model.path
    kind = re.search(r"[.-](I?Q\d\w*)\.gguf$", path, flags=re.IGNORECASE)
    return kind[1] if kind else None


def origin_of(model: ModelSource) -> str:
    """What the dense model was read from, and out of which quantisation, as far as the file's name tells."""
    if isinstance(model, HubModel):
        return f"hub id {model.id} at revision {model.revision}"
    path = model.member if isinstance(model, PackageModel) else model.path
    kind = quantisation(model)
    quantised = f", dequantised from {kind}" if kind else ""
    if isinstance(model, PackageModel):
        first, *_, last = [*model.package, model.package[-1]]
        packages = f"package {first}" if first == last else f"packages {first} to {last}"
        return f"{path.split('/')[-1]} of the {packages}{quantised}"
    return f"local files ({PurePath(path).name}){quantised}"
