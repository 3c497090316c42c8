"""What settings say stays text in the report and in the model card."""

from markdown_it import MarkdownIt

from stages.reporting.markdown import to_markdown
from stages.reporting.page_parts import Page, Section, Table, Text

HOSTILE = "a|b [x](http://x.y) <img src=x> `c` **d** @user ![p](q) \\ \x1b[31m &lt;"


def test_the_name_of_a_model_is_no_markup_of_the_report() -> None:
    table = Table(("what", "value"), [("dense model", HOSTILE), ("accuracy, pruned - dense", "0.5 ± 0.1")])
    page = Page(f"{HOSTILE}, pruned", (Text("Opening."),), (Section("Origin", (table,)),))
    tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(to_markdown(page))
    inline = [child for token in tokens for child in token.children or ()]
    assert {one.type for one in inline} <= {"text", "text_special"}
    assert [token.type for token in tokens if token.type.startswith("html")] == []
    cells = [token for token in tokens if token.type == "td_open"]
    assert len(cells) == 4
    text = "".join(one.content for one in inline)
    assert "a|b [x](http:\u200b//x.y) <img src=x> `c` **d** @\u200buser ![p](q) \\" in text
    assert "\x1b" not in text
    assert "0.5 ± 0.1" in text
