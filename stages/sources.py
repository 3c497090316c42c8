"""Stage: the text of one domain."""

import click

from secateurs.errors import InputError
from secateurs.text.domains import documents
from stages.common import artifacts
from stages.common.console import stage, summary
from stages.common.dvc import key_of_stage
from stages.common.locks import hold
from stages.common.paths import SOURCES
from stages.params.file import PARAMS_FILE, read_params


@stage
@click.argument("domain", required=False)
def main(domain: str | None) -> None:
    """Read DOMAIN's documents, as params.yaml has it under `domains`, into data/sources/DOMAIN.parquet."""
    domains = read_params().domains
    domain = key_of_stage(domain, "DOMAIN")
    if domain not in domains:
        raise InputError(f"{PARAMS_FILE}: domains.{domain}: no such domain; there are {', '.join(domains)}")
    output = SOURCES / f"{domain}.parquet"
    hold(output)
    found = documents(domain, domains[domain])
    artifacts.write_documents(output, found)
    characters = sum(len(item.text) for item in found)
    summary(f"sources@{domain}", f"{len(found)} documents, {characters:,} characters")


if __name__ == "__main__":
    main()
