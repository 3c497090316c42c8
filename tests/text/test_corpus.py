from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.errors import InputError
from secateurs.settings.groups import Corpus
from secateurs.text.corpus import build_corpus, build_rest, split_documents
from secateurs.text.documents import Document
from secateurs.text.overlap import ngrams
from secateurs.text.packing import Piece, Tokens, pack
from secateurs.text.turns import Dialogue, Turns, from_json, to_json

BYTES = Tokens(
    lambda text: list(text.encode()),
    lambda ids: bytes(ids).decode(errors="replace"),
    (),
    (0,),
    turns=lambda: Turns("<user>", "<model>", "<end>"),
)
PIECES = st.lists(st.tuples(st.text(max_size=3), st.lists(st.integers(0, 9), max_size=30)), max_size=12)


def settings(**changes: Any) -> Corpus:
    fields = {
        "sequence_length": 32,
        "calibration_sequences": 4,
        "heldout_sequences": 2,
        "heldout_share": 0.3,
        "ngram": 3,
        "seed": 0,
    }
    return Corpus.model_validate({**fields, **changes})


def numbered(count: int, words: int = 8, start: int = 0) -> list[Document]:
    """Documents without an n-gram in common."""
    return [
        Document(f"d{index}", " ".join(f"w{index}x{word}" for word in range(words)))
        for index in range(start, start + count)
    ]


def dialogues(count: int) -> list[Document]:
    """Questions with answers, of which every third came to its end."""
    return [
        Document(f"d{n}", to_json(Dialogue(f"question {n}?", f"answer {n}.", n % 3 == 0)), chat=True)
        for n in range(count)
    ]


@given(PIECES, st.integers(1, 16), st.integers(1, 5))
def test_rows_are_a_prefix_of_the_text_in_exact_lengths(
    pieces: list[tuple[str, list[int]]], length: int, wanted: int
) -> None:
    rows = pack("d", [Piece(name, ids, []) for name, ids in pieces], length, wanted)
    laid_out = [token for _, ids in pieces for token in ids]
    assert len(rows) == min(wanted, len(laid_out) // length)
    assert all(len(row.input_ids) == length for row in rows)
    assert [token for row in rows for token in row.input_ids] == laid_out[: len(rows) * length]


@given(st.sets(st.text(max_size=8)), st.integers(0, 3), st.floats(0.05, 0.95))
def test_a_document_is_in_one_split_whatever_else_there_is(names: set[str], seed: int, share: float) -> None:
    chosen = settings(seed=seed, heldout_share=share)
    documents = [Document(name, "text") for name in sorted(names)]
    calibration, heldout = split_documents("d", documents, chosen)
    assert {item.document for item in calibration} | {item.document for item in heldout} == names
    assert not {item.document for item in calibration} & {item.document for item in heldout}
    for item in documents:
        alone, _ = split_documents("d", [item], chosen)
        assert (alone == [item]) == (item in calibration)


def test_every_domain_gives_the_sequences_asked_for() -> None:
    sources = {"a": numbered(40), "b": numbered(40, start=100), "self": numbered(20, start=200)}
    calibration, heldout = build_corpus(sources, BYTES, set(), settings())
    assert [row.domain for row in calibration.sequences] == ["a"] * 4 + ["b"] * 4 + ["self"] * 4
    assert [row.domain for row in heldout.sequences] == ["a"] * 2 + ["b"] * 2
    assert {len(row.input_ids) for row in calibration.sequences + heldout.sequences} == {32}


def test_no_document_is_in_both_splits() -> None:
    calibration, heldout = build_corpus({"a": numbered(60)}, BYTES, set(), settings())
    names = [{name for row in split.sequences for name in row.documents} for split in (calibration, heldout)]
    assert not names[0] & names[1]


def test_a_document_gives_at_most_one_sequence_of_tokens() -> None:
    calibration, _ = build_corpus({"a": numbered(60, words=500)}, BYTES, set(), settings())
    rows = calibration.sequences
    assert all(sum(name in row.documents for row in rows) <= 2 for row in rows for name in row.documents)
    # 32 of a document and the end token after it: 4 rows of 32 begin in 4 documents.
    assert len({name for row in rows for name in row.documents}) == 4


def test_documents_are_closed_by_the_end_token() -> None:
    tokens = Tokens(BYTES.encode, BYTES.decode, (7,), (0,))
    calibration, _ = build_corpus({"a": numbered(60, words=2)}, tokens, set(), settings())
    ids = [token for row in calibration.sequences for token in row.input_ids]
    ends = [index for index, token in enumerate(ids[:-1]) if token == 0]
    assert ids[0] == 7
    assert ends
    assert all(ids[index + 1] == 7 for index in ends)


def test_calibration_text_shared_with_a_benchmark_is_dropped_and_counted() -> None:
    sources = {"a": numbered(60, words=4)}
    used, _ = split_documents("a", sources["a"], settings())
    calibration, _ = build_corpus(sources, BYTES, ngrams(used[0].text, 3), settings())
    assert calibration.counts["a"].overlap_benchmarks == 1
    assert used[0].document not in {name for row in calibration.sequences for name in row.documents}


def test_calibration_text_shared_with_held_out_text_of_another_domain_is_dropped() -> None:
    sources = {"a": numbered(60, words=4), "b": numbered(60, words=4, start=100)}
    _, held = split_documents("b", sources["b"], settings())
    used, _ = split_documents("a", sources["a"], settings())
    copy = Document(used[0].document, held[0].text)
    sources["a"] = [copy if item == used[0] else item for item in sources["a"]]
    calibration, _ = build_corpus(sources, BYTES, set(), settings())
    assert calibration.counts["a"].overlap_heldout == 1


def test_the_rest_takes_long_documents_whole_where_few_must_fill_a_domain() -> None:
    sources = {"a": numbered(40, words=60), "b": numbered(40, words=60, start=100)}
    calibration, heldout = build_corpus(sources, BYTES, set(), settings())
    used = {domain: split_documents(domain, found, settings())[0] for domain, found in sources.items()}
    length = {domain: sum(len(item.text.encode()) + 1 for item in found) for domain, found in used.items()}
    rest = build_rest(sources, {"a": 10**6, "b": 5}, heldout, BYTES, set(), settings())
    rows = {domain: [row for row in rest.sequences if row.domain == domain] for domain in sources}
    # All of the one domain's text, as much as is wanted of the other's.
    assert len(rows["a"]) == length["a"] // 32 == rest.counts["a"].sequences
    assert len(rows["b"]) == 5
    assert len({name for row in rows["b"] for name in row.documents}) == 5
    names = {name for row in rest.sequences for name in row.documents}
    assert not names & {name for row in heldout.sequences for name in row.documents}
    assert {name for row in calibration.sequences if row.domain == "a" for name in row.documents} <= names


def test_the_rest_has_no_text_of_benchmarks_or_held_out_text() -> None:
    sources = {"a": numbered(60, words=4)}
    used, held = split_documents("a", sources["a"], settings())
    copy = Document(used[1].document, held[0].text)
    sources["a"] = [copy if item == used[1] else item for item in sources["a"]]
    benchmark = ngrams(used[0].text, 3)
    _, heldout = build_corpus(sources, BYTES, benchmark, settings())
    counts = build_rest(sources, {"a": 100}, heldout, BYTES, benchmark, settings()).counts["a"]
    assert (counts.overlap_benchmarks, counts.overlap_heldout) == (1, 1)


def test_a_domain_without_a_sequence_for_the_rest_is_refused() -> None:
    sources = {"a": numbered(40), "b": [Document("short", "x")]}
    _, heldout = build_corpus({"a": sources["a"]}, BYTES, set(), settings())
    with pytest.raises(InputError, match=r"domains.b: its calibration documents make no sequence of 32"):
        build_rest(sources, {"b": 3}, heldout, BYTES, set(), settings())


@pytest.mark.parametrize(
    ("domain", "key", "remedy"),
    [
        ("a", "heldout_sequences", "domains.a.documents"),
        ("self", "calibration_sequences", "sample.documents"),
        ("dialogues", "calibration_sequences", "sample.dialogues.count"),
    ],
)
def test_too_little_text_is_refused_with_numbers(domain: str, key: str, remedy: str) -> None:
    documents = dialogues(2) if domain == "dialogues" else numbered(6)
    with pytest.raises(
        InputError, match=rf"corpus.{key}: 9: domain {domain} has \d+ tokens .* raise {remedy}"
    ):
        build_corpus({domain: documents}, BYTES, set(), settings(**{key: 9}))


def test_of_dialogues_there_are_as_many_sequences_as_of_all_others_with_their_answers_marked() -> None:
    sources = {"a": numbered(40), "b": numbered(40, start=100), "dialogues": dialogues(60)}
    calibration, heldout = build_corpus(sources, BYTES, set(), settings())
    assert [row.domain for row in calibration.sequences] == ["a"] * 4 + ["b"] * 4 + ["dialogues"] * 8
    assert [row.domain for row in heldout.sequences] == ["a"] * 2 + ["b"] * 2
    rows = [row for row in calibration.sequences if row.domain == "dialogues"]
    assert not any(row.answers for row in calibration.sequences if row.domain != "dialogues")
    laid_out = "".join(chr(token) if token else "|" for row in rows for token in row.input_ids)
    marked = "".join(
        chr(token) if token and answer else "|" if answer else "."
        for row in rows
        for token, answer in zip(row.input_ids, row.answers, strict=True)
    )
    for piece, answers in zip(laid_out.split("|")[:-1], marked.split("|")[:-1], strict=True):
        number = int(piece.partition("question ")[2].partition("?")[0])
        end = "" if number % 3 else "<end>"
        assert piece == f"<user>question {number}?<model>answer {number}.{end}"
        assert answers.strip(".") == f"answer {number}.{end}".strip(".")
        assert len(answers) == len(piece)


def test_each_part_of_the_dialogues_has_sequences_in_proportion_to_its_documents() -> None:
    found = dialogues(80)
    parts = {"dialogues 1": found[:60], "dialogues 2": found[60:]}
    sources = {"a": numbered(40), "b": numbered(40, start=100), "c": numbered(40, start=200)}
    calibration, heldout = build_corpus({**sources, **parts}, BYTES, set(), settings())
    # Of three sequences three quarters and a quarter, each rounded up, for the four of every other domain.
    counts = {name: calibration.counts[name].sequences for name in parts}
    assert counts == {"dialogues 1": 12, "dialogues 2": 4}
    assert set(heldout.counts) == set(sources)
    assert all(any(row.answers) for row in calibration.sequences if row.domain in parts)


def test_a_part_of_short_dialogues_gives_fewer_sequences_where_the_others_have_enough() -> None:
    sources = {name: numbered(40, start=100 * place) for place, name in enumerate("abcd")}
    long = [
        Document(f"l{n}", to_json(Dialogue(f"question {n}?", f"{n} {'words ' * 9}{n}.", True)), chat=True)
        for n in range(45)
    ]
    short = [Document(f"s{n}", to_json(Dialogue(f"{n}?", "y", True)), chat=True) for n in range(14)]
    parts = {"dialogues 1": long, "dialogues 2": dialogues(26), "dialogues 3": short}
    calibration, _ = build_corpus({**sources, **parts}, BYTES, set(), settings())
    counts = {name: calibration.counts[name].sequences for name in parts}
    assert counts == {"dialogues 1": 12, "dialogues 2": 8, "dialogues 3": 4}
    few = {"dialogues 1": long[:3], "dialogues 2": dialogues(5), "dialogues 3": short[:9]}
    with pytest.raises(InputError, match=r"sample.dialogues.parts: .* 3 times .* 4 times .* raise sample"):
        build_corpus({**sources, **few}, BYTES, set(), settings())


def test_dialogues_that_repeat_a_benchmark_are_dropped() -> None:
    sources = {"a": numbered(40), "dialogues": dialogues(60)}
    used = build_corpus(sources, BYTES, set(), settings())[0].sequences[-1].documents[0]
    words = from_json(next(one.text for one in sources["dialogues"] if one.document == used))
    calibration, _ = build_corpus(sources, BYTES, ngrams(words.answer, 2), settings(ngram=2))
    assert calibration.counts["dialogues"].overlap_benchmarks == 1
    assert all(used not in row.documents for row in calibration.sequences)


def test_a_chinese_article_that_is_scored_is_not_calibrated_on() -> None:
    # Forty articles of thirty characters each, twelve of which are one article under several names.
    documents = [
        Document(str(n), "".join(chr(0x4E00 + max(n, 11) * 97 + place * 7) for place in range(30)) + "。")
        for n in range(40)
    ]
    same = {str(n) for n in range(12)}
    chosen = settings(sequence_length=96, ngram=13, calibration_sequences=12, heldout_sequences=6)
    calibration, heldout = build_corpus({"news": documents}, BYTES, set(), chosen)
    assert same & {name for row in heldout.sequences for name in row.documents}
    assert not same & {name for row in calibration.sequences for name in row.documents}
    assert calibration.counts["news"].overlap_heldout > 0


def words(count: int, name: str) -> str:
    return " ".join(f"{name}{number}" for number in range(count))


def test_few_long_documents_give_more_than_one_sequence_each() -> None:
    sources = {"a": [Document(f"book{index}", words(200, f"b{index}x")) for index in range(8)]}
    calibration, heldout = build_corpus(sources, BYTES, set(), settings(calibration_sequences=20))
    assert len(calibration.sequences) == 20
    used = {name for row in calibration.sequences for name in row.documents}
    assert used == {item.document for item in split_documents("a", sources["a"], settings())[0]}
    assert not used & {name for row in heldout.sequences for name in row.documents}


def test_a_document_gives_no_more_than_the_too_few_documents_need() -> None:
    sources = {"a": [Document(f"book{index}", words(900, f"b{index}x")) for index in range(8)]}
    calibration, _ = build_corpus(sources, BYTES, set(), settings(calibration_sequences=10))
    count = len(split_documents("a", sources["a"], settings())[0])
    assert count < 10
    rows = [row.documents for row in calibration.sequences]
    # Two sequences' worth of each, a row at most at either side of a document's end.
    assert all(sum(f"book{index}" in names for names in rows) <= 3 for index in range(8))


LEGAL = " ".join(f"legal{number}" for number in range(18))


def tickets(count: int) -> list[Document]:
    return [Document(f"t{n}", f"{words(30, f't{n}x')} {LEGAL}") for n in range(count)]


def test_a_line_that_most_documents_of_a_domain_share_is_no_overlap() -> None:
    chosen = settings(ngram=13, sequence_length=512, calibration_sequences=50)
    sources = {"a": tickets(300)}
    calibration, _ = build_corpus(sources, BYTES, set(), chosen)
    assert calibration.counts["a"].overlap_heldout == 0
    # A copy of a held-out ticket is still found, beside the line that all share.
    used, held = split_documents("a", sources["a"], chosen)
    copy = Document(used[0].document, held[0].text)
    sources["a"] = [copy if item == used[0] else item for item in sources["a"]]
    calibration, _ = build_corpus(sources, BYTES, set(), chosen)
    assert calibration.counts["a"].overlap_heldout == 1


def test_a_line_that_few_documents_of_a_domain_share_is_an_overlap() -> None:
    chosen = settings(ngram=13, sequence_length=512, calibration_sequences=50)
    others = [Document(f"o{n}", words(48, f"o{n}x")) for n in range(300)]
    calibration, _ = build_corpus({"a": tickets(100) + others}, BYTES, set(), chosen)
    assert calibration.counts["a"].overlap_heldout > 0


def test_documents_that_are_little_but_what_most_share_are_an_overlap() -> None:
    form = words(60, "form")
    sources = {"a": [Document(f"f{n}", f"{form} {n}") for n in range(200)]}
    with pytest.raises(InputError, match=r"(\d+) of its 200 .* and \1 of these are dropped"):
        build_corpus(sources, BYTES, set(), settings(ngram=13, sequence_length=512))
