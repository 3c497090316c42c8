import bz2
import re
import time
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateurs.errors import InputError
from secateurs.text import mediawiki
from secateurs.text.mediawiki import _without_references, plain_text, read_mediawiki

PAGE = "<page><title>{title}</title><ns>{ns}</ns>{extra}<revision><text>{text}</text></revision></page>"


def dump(*pages: str) -> bytes:
    inner = "".join(pages)
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{inner}</mediawiki>'.encode()


def page(title: str, text: str = "Text.", ns: int = 0, extra: str = "") -> str:
    return PAGE.format(title=title, text=text, ns=ns, extra=extra)


@pytest.mark.parametrize("compress", [bytes, bz2.compress])
def test_only_articles_are_read(compress: type[bytes]) -> None:
    pages = [
        page("Article"),
        page("Old", extra='<redirect title="Article" />'),
        page("Talk:Article", ns=1),
        page("Name", text="Name may be: {{disambiguation}}"),
    ]
    found = list(read_mediawiki({"d": compress(dump(*pages))}))
    assert [(item.document, item.text) for item in found] == [("d:Article", "Text.")]


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''' and [[Target|link]]s, [[plain]].", "Bold and links, plain."),
        ("A{{cite|x={{y}}}} b<ref name=a>source [[x]]</ref> c<ref name=a />.", "A b c."),
        ("[[File:a.jpg|thumb|A [[nested]] caption]]Text[[Category:X]]", "Text"),
        ("Before\n{| class=x\n| cell\n|}\nafter", "Before\n\nafter"),
        ("Achilles ({{lang|x}}, {{y}}; ''hero'') was.", "Achilles (hero) was."),
        ("It is {{convert|5|km}}.", "It is."),
        ("x&nbsp;y &amp; z<!-- hidden -->", "x y & z"),
        (
            "Lead.\n==Body==\nText.\n== See also ==\n* [[Other]]\n==More==\nEnd.",
            "Lead.\nBody\nText.\nMore\nEnd.",
        ),
        ("[http://a.b label] and [http://a.b]", "label and"),
    ],
)
def test_wikitext_becomes_running_text(wikitext: str, text: str) -> None:
    assert plain_text(wikitext) == text


def test_what_is_no_dump_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"^d: not a MediaWiki dump"):
        list(read_mediawiki({"d": b"<page>"}))


def test_a_dump_is_read_only_as_far_as_wanted() -> None:
    whole = dump(page("A"), page("B"))
    broken = whole[: whole.index(b"B</title>")]
    assert next(read_mediawiki({"d": broken + b" " * 100_000})).document == "d:A"


PATTERN = re.compile(r"<ref\b[^>]*/>|<ref\b[^>]*>.*?</ref\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)
PIECES = [
    "<ref",
    "<ref ",
    "<REF name=a",
    "/>",
    ">",
    "</ref>",
    "</ref  >",
    "<!--",
    "-->",
    "a",
    " ",
    "<references/>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join))
def test_references_and_comments_are_those_that_a_pattern_finds(markup: str) -> None:
    assert _without_references(markup) == PATTERN.sub("", markup)


OPENED = ["<ref ", "<ref>", "<b>", "{{", "[[a|", "[http://a ", "{|\n", "<!--", "{{a|b=", "<b></i>", "[[a|] ]"]


@pytest.mark.parametrize("opening", OPENED)
def test_markup_that_is_opened_and_never_closed_is_refused_at_once(opening: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=r"d\.xml: article 'A': more than 500 times .* take it out"):
        list(read_mediawiki({"d.xml": dump(page("A", escape(opening * 200_000)))}))
    assert time.process_time() - started < 10


@pytest.mark.parametrize("markup", ["= ", "<br ", '<li a="', "<br a='>"])
def test_markup_at_which_the_parser_breaks_is_refused_at_once(markup: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=r"d\.xml: article 'A': .*more than 500 .*; no article; take it out"):
        list(read_mediawiki({"d.xml": dump(page("A", escape(markup * 200_000)))}))
    assert time.process_time() - started < 10


def test_an_article_with_lists_of_breaks_and_headings_is_read() -> None:
    text = plain_text("== a = b ==\n" * 600 + 'x<br style="a > b" />y<br>' * 2000)
    assert text.count("a = b") == 600


def test_references_are_read_in_time_that_grows_with_the_text() -> None:
    started = time.process_time()
    assert (
        plain_text("<ref name=a>x</ref>" * 100_000 + "text" + "<ref " * 400)
        == "text" + "<ref " * 399 + "<ref"
    )
    assert plain_text("a" + " \n" * 200_000 + "b").startswith("a")
    assert time.process_time() - started < 10


def test_a_page_without_end_is_refused_before_it_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki, "MOST_PAGE", 2**20)
    packed = bz2.compress(dump(page("A", "a" * 2**21), page("B")))
    with pytest.raises(InputError, match=r"d\.bz2: a page of more than 1,048,576 bytes"):
        list(read_mediawiki({"d.bz2": packed}))


def test_an_article_that_is_longer_than_articles_are_is_refused() -> None:
    with pytest.raises(InputError, match=r"article 'A': 4,194,305 characters; an article has at most"):
        list(read_mediawiki({"d.xml": dump(page("A", escape("a" * (4 * 2**20 + 1))))}))
