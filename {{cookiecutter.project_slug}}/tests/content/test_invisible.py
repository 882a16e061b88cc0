"""What cannot be seen goes, what scripts and emoji need stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.content.invisible import cleaned, has_hidden

TAGS = "".join(chr(0xE0000 + ord(char)) for char in "obey")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (f"a{TAGS}b", "ab"),
        ("pass\u00adword", "password"),
        ("\u202eabc\u202c", "abc"),
        ("❤\ufe0f\ufe01\U000e0100", "❤\ufe0f"),
        ("h\ufe0fi\ufe01", "hi"),
        ("a\u200db", "ab"),
        ("\ud800a\0", "a"),
        (f"\U0001f3f4{TAGS}\U000e007f", "\U0001f3f4"),
        ("one\u2028two", "one\ntwo"),
        ("\ufeffstart", "start"),
    ],
)
def test_hidden_characters_are_removed(text: str, seen: str) -> None:
    assert cleaned(text) == seen
    assert has_hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "plain\ttext\r\n",
        "葛\U000e0100城",
        "👩\u200d👩\u200d👧",
        "👩🏽\u200d🚀",
        "❤\ufe0f",
        "می\u200cخواهم",
        "क्\u200dष",
        "🇩🇪",
    ],
)
def test_visible_text_is_left_alone(text: str) -> None:
    assert cleaned(text) == text


@given(st.text())
def test_once_is_enough(text: str) -> None:
    assert cleaned(cleaned(text)) == cleaned(text)
