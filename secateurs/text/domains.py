"""The text of a domain, wherever params.yaml says that it comes from."""

from secateurs.archives.members import read_members
from secateurs.errors import InputError, SettingError
from secateurs.files.local_files import find_files
from secateurs.files.streams import Files
from secateurs.settings.sources import Domain, HubDomain, PackageDomain, PathDomain
from secateurs.text.documents import Document
from secateurs.text.readers import read


def documents(name: str, domain: Domain) -> list[Document]:
    """At most `domain.documents` documents with unique ids; InputError when there are none."""
    key = f"domains.{name}"
    if isinstance(domain, HubDomain):
        # `datasets` takes seconds to import, and most domains do without it.
        from secateurs.text.hub import read_dataset

        found = read_dataset(domain, key)
    elif isinstance(domain, PackageDomain):
        found = _read(read_members(domain, key), domain, f"{key}.member")
    else:
        found = _read(find_files(domain.path, f"{key}.path"), domain, f"{key}.path")
    if not found:
        raise no_text(name)
    return found


def no_text(name: str) -> SettingError:
    """What is said of a domain whose documents are all empty."""
    return SettingError(f"domains.{name}: no text in its files; check domains.{name}.reader")


def _read(files: Files, domain: PackageDomain | PathDomain, key: str) -> list[Document]:
    try:
        return read(files, domain.reader, domain.documents)
    except InputError as error:
        raise SettingError(f"{key}: {error}") from None
