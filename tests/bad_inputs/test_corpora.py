"""Domains with too little text: the message says which of the causes it is, with the counts it has."""

from pathlib import Path

import pytest

from stages import corpus, model, sample, sources
from tests.bad_inputs.local import LINES, local_params, make_project, said
from tests.project import invoke_all

BOOK = " ".join(f"word{number}" for number in range(9000))
FORM = " ".join(f"form{number}" for number in range(40))
START = "params.yaml: corpus."

CASES: dict[str, tuple[list[str], str]] = {
    "one book": ([BOOK],
        "heldout_sequences: 4: domain tales has 0 tokens for them, and 4 sequences of 16 need 64: 0 of its "
        "1 documents are held-out text, and a document of the domain has 79889 characters on average, but "
        "is never in both splits; split long documents into more, a file for each chapter or a line for each "
        "paragraph (`reader: {format: lines}`), or lower corpus.heldout_sequences"),
    "short lines": ([f"tale {number}" for number in range(6)],
        "heldout_sequences: 4: domain tales has 14 tokens for them, and 4 sequences of 16 need 64: 2 of its "
        "6 documents are held-out text, with 6 characters each on average; raise domains.tales.documents or "
        "add text to its files, or lower corpus.heldout_sequences"),
    "forms": ([f"{FORM} {number}" for number in range(50)],
        "calibration_sequences: 12: domain tales has 0 tokens for them, and 12 sequences of 256 need 3072: "
        "33 of its 50 documents are calibration text, and 33 of these are dropped, because they share 13 "
        "words in a row: 33 with held-out text; take repeated text out, or raise corpus.ngram, or lower "
        "corpus.calibration_sequences"),
}  # fmt: skip


def test_a_share_that_leaves_a_split_too_little_is_named(here: Path, dense_dir: Path) -> None:
    domains = {"tales": LINES | {"documents": 200}}
    make_project(here, local_params(dense_dir, domains=domains, benchmarks={}, corpus__heldout_share=0.995))
    documents = [f"Tale {n}: they lived in house number {n * 7} until today, {n} times." for n in range(200)]
    Path("tales.txt").write_text("\n".join(documents), encoding="utf-8")
    invoke_all((model.main,), (sources.main, "tales"), (sample.main,))
    assert said(corpus.main) == (
        f"{START}calibration_sequences: 12: domain tales has 128 tokens for them, and 12 sequences of 16 need 192: "
        "2 of its 200 documents are calibration text, by corpus.heldout_share: 0.995, and all of them together "
        f"have {sum(map(len, documents))} characters; lower corpus.heldout_share, or lower corpus.calibration_sequences"
    )


@pytest.mark.parametrize("case", CASES)
def test_too_little_text_is_refused_by_its_cause(case: str, here: Path, dense_dir: Path) -> None:
    documents, message = CASES[case]
    length = {"corpus__sequence_length": 256, "sample__documents": 70} if case == "forms" else {}
    make_project(here, local_params(dense_dir, domains={"tales": LINES}, benchmarks={}, **length))
    Path("tales.txt").write_text("\n".join(documents), encoding="utf-8")
    invoke_all((model.main,), (sources.main, "tales"), (sample.main,))
    assert said(corpus.main) == START + message
    assert not (here / "data/corpus").exists()
