"""What a pull request holds is shown as text in its review, however it is written, and not too much."""

from typing import Any

import pytest
from markdown_it import MarkdownIt

from secateurs.evaluation.untrusted import code, numbers, words
from stages.reporting.comparison import Side, compare

HOSTILE = [
    "a`\n\n# Approved by the maintainers\n\n",
    "@octocat please look",
    "![picture](https://example.org/track.png)",
    "<img src=https://example.org/track.png>",
    "x | y | z",
    "[here](https://example.org)",
    "https://example.org/phish",
    "**bold** <!-- secateurs: review -->",
]


def rendered(text: str) -> list[Any]:
    """All tokens that a Markdown parser finds."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    return [*tokens, *(inner for token in tokens for inner in token.children or [])]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("show", [code, words])
def test_text_stays_text(text: str, show: Any) -> None:
    kinds = {token.type for token in rendered(f"| {show(text)} |\n| --- |\n| a |")}
    assert not kinds & {"heading_open", "image", "link_open", "html_inline", "html_block", "strong_open"}
    alone = rendered(f"Said: {show(text)}")
    assert {token.type for token in alone} <= {
        *("paragraph_open", "paragraph_close", "inline", "text", "code_inline", "text_special", "softbreak"),
    }
    mentioned = [token.content for token in alone if token.type != "code_inline" and not token.children]
    assert not any("@octocat" in one or "https://" in one for one in mentioned)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_key_value_metric_or_figure_changes_no_structure(text: str) -> None:
    metrics: Any = {
        "dense": {"perplexity": {"geometric_mean": 10.0, text: 1.0}},
        "pruned": {"perplexity": {"geometric_mean": 12.0, text: 2.0}},
    }
    before = Side("main", {}, {}, {})
    after = Side(text, {text: text}, metrics, {f"{text}.png": (f"https://example.org/{text}.png", "1")})
    headings = [token.map for token in rendered(compare(before, after)) if token.type == "heading_open"]
    assert len(headings) == 4
    images = [token for token in rendered(compare(before, after)) if token.type == "image"]
    assert len(images) == 1
    assert images[0].attrs["src"].startswith("https://example.org/")


def test_what_is_no_number_is_left_out_and_said() -> None:
    before = Side("main", {}, {"dense": "x", "pruned": {"perplexity": {"geometric_mean": 12.0}}}, {})
    pruned = {"perplexity": {"geometric_mean": "NaN", "code": 10**400, "news": True, "self": float("inf")}}
    text = compare(before, Side("more", {}, {"pruned": pruned, "difference": "x"}, {}))
    assert "| `perplexity.geometric_mean` |  | 12.0 → none |" in text
    assert "6 entries of data/metrics.json are not numbers and left out: `dense`, " in text


@pytest.mark.parametrize("tree", [None, [], "x", 3, {"a": {"b": []}}])
def test_metrics_and_params_of_any_form_are_taken(tree: Any) -> None:
    side = Side("main", tree, tree, {})
    assert "### Figures" in compare(side, Side("more", {"a": 1}, {}, {}))
    assert numbers(tree)[0] in ({}, {"a": {}})


def test_a_comment_never_holds_more_than_it_may() -> None:
    def metrics(value: float) -> Any:
        many = {f"domain-{n}-{'x' * 100}": value for n in range(3000)}
        return {"pruned": {"perplexity": many}, "ratio": {"perplexity": many}}

    params = [{f"key-{n}-{'x' * 100}": "v" * 200 + str(side) for n in range(3000)} for side in (0, 1)]
    figures = [
        {f"figure-{n}.png": (f"https://example.org/{n}.png", str(side)) for n in range(500)}
        for side in (0, 1)
    ]
    text = compare(
        Side("main", params[0], metrics(1.0), figures[0]), Side("more", params[1], metrics(2.0), figures[1])
    )
    assert len(text) < 60_000
    for what in ("settings", "measures", "figures"):
        assert f"more {what} are left out, because a comment holds no more." in text
    assert "3000 measures worse" in text


def test_a_group_of_nothing_is_no_entry_that_is_left_out() -> None:
    assert numbers({"dense": {"accuracy": {}, "parameters": 3}}) == ({"dense": {"parameters": 3}}, [])
