"""The words of all calibration text, whose tokens are counted."""

from collections.abc import Collection

from secateurs.settings.sources import GENERATED
from secateurs.text.corpus import split_documents
from secateurs.text.words import words_of
from stages.common.artifacts import read_documents
from stages.common.paths import SOURCES
from stages.params.file import Params

Words = dict[str, list[str]]


def words_by_split(params: Params, without: Collection[tuple[str, str]] = ()) -> tuple[Words, Words]:
    """What is calibrated on, of each domain that counts, and what is held out, of each that has some.

    without: domain and id of documents that are left out of the first.
    """
    calibration, heldout = {}, {}
    for domain in [*params.domains, *GENERATED]:
        read, left = split_documents(domain, read_documents(SOURCES / f"{domain}.parquet"), params.corpus)
        read = [item for item in read if (domain, item.document) not in without]
        if read and params.mixture[domain]:
            calibration[domain] = words_of(read)
        if left:
            heldout[domain] = words_of(left)
    return calibration, heldout
