"""The text of a domain, wherever params.yaml says that it comes from."""

from stages.archives.members import read_members
from stages.common.artifacts import Document
from stages.common.errors import InputError
from stages.common.local_files import read_files
from stages.common.params import PARAMS_FILE, Domain, HubDomain, PackageDomain, PathDomain
from stages.text.readers import read


def documents(name: str, domain: Domain) -> list[Document]:
    """At most `domain.documents` documents with unique ids; InputError when there are none."""
    key = f"domains.{name}"
    if isinstance(domain, HubDomain):
        # `datasets` takes seconds to import, and most domains do without it.
        from stages.text.hub import read_dataset

        found = read_dataset(domain, key)
    elif isinstance(domain, PackageDomain):
        found = _read(read_members(domain, key), domain, f"{key}.member")
    else:
        found = _read(read_files(domain.path, f"{key}.path"), domain, f"{key}.path")
    if not found:
        raise InputError(f"{PARAMS_FILE}: {key}: no text in its files; check {key}.reader")
    return found


def _read(files: dict[str, bytes], domain: PackageDomain | PathDomain, key: str) -> list[Document]:
    try:
        return read(files, domain.reader, domain.documents)
    except InputError as error:
        raise InputError(f"{PARAMS_FILE}: {key}: {error}") from None
