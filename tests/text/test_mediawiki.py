import bz2

import pytest

from stages.common.errors import InputError
from stages.text.mediawiki import plain_text, read_mediawiki

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
