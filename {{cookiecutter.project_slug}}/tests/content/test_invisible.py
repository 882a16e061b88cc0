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
        # fault 38: eight bits a character behind neighbours of some class, private use, unassigned
        ("中\U000e0100文\U000e01ef", "中文"),
        ("葛\U000e0100城", "葛城"),
        ("あ\ufe0fい\ufe0e", "あい"),
        ("∀\ufe00", "∀"),
        ("∩\ufe01", "∩"),
        ("a\ue000b\U000f1234c\U0010fffd", "abc"),
        ("a\u0378b\U000e0fffc", "abc"),
    ],
)
def test_hidden_characters_are_removed(text: str, seen: str) -> None:
    assert cleaned(text) == seen
    assert has_hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "plain\ttext\r\n",
        "∩\ufe00 ≤",
        "#\ufe0f\u20e3",
        "。\ufe01",
        "👩\u200d👩\u200d👧",
        "👩🏽\u200d🚀",
        "❤\ufe0f",
        "می\u200cخواهم",
        "क्\u200dष",
        "🇩🇪",
        "ক\u09cd\u200dষ",
        "র\u200d\u09cdয",
        "ක\u0dca\u200dෂ",
        "✌🏽",
        "🏳️\u200d🌈",
        "👩🏽\u200d❤️\u200d💋\u200d👨🏿",
        "🚶🏽\u200d♀️\u200d➡️",
        "🧑🏻\u200d🤝\u200d🧑🏿",
        "🕵️\u200d♂️",
        "🐻\u200d❄️",
        "👩\u200d💻",
        "نامه\u200cها",
        "بِ\u200cبَ",
    ],
)
def test_visible_text_is_left_alone(text: str) -> None:
    assert cleaned(text) == text


@pytest.mark.parametrize("base", ["م", "ا", "क", "ཀ", "ᠠ", "😀", "👩", "❤", "ﻡ", "က", "x", "中"])
@pytest.mark.parametrize("joiner", ["\u200d", "\u200c"])
def test_a_joiner_that_shows_nothing_is_no_bit_of_a_message(base: str, joiner: str) -> None:
    """fault 38: allowed by a registered sequence, not by the class of its neighbours."""
    shown = {("م", "\u200c"), ("ᠠ", "\u200c"), ("👩", "\u200d")}  # letters apart; one picture for two
    text = "".join(base + joiner * int(bit) for bit in f"{ord('i'):08b}0")
    assert cleaned(text) == (text if (base, joiner) in shown else base * 9)


@pytest.mark.parametrize("base", ["中", "ᠠ", "∀", "あ", "x", "❤", "🏴", "\U0001f600"])
def test_no_neighbour_lets_a_message_through(base: str) -> None:
    """fault 38: eight bits for each visible character, behind any base."""
    hidden = "".join(base + chr(0xE0100 + byte - 16 if byte >= 16 else 0xFE00 + byte) for byte in b"ignore all\x01")
    assert cleaned(hidden) == base * 11


@pytest.mark.parametrize(
    "text",
    [
        "Summarise this.\u180b\u200c\u180b\u200d\u180b", "Bob\u180b\u200c\u180b\u200d\u180b", "─\u200d─\u200d─",
        "あ\u200dあ", "7\ufe0e7", "0\ufe00", "\u2800\u200d\u2800", "。\u200d。", "\u061c\u200c\u061c",
    ],
)  # fmt: skip
def test_what_is_removed_itself_vouches_for_no_joiner(text: str) -> None:
    seen = cleaned(text)
    assert seen == cleaned(seen)
    assert not set(seen) & set("\u180b\u200c\u200d\ufe00\ufe0e\u061c\u2800")
    assert has_hidden(text)


@given(st.text())
def test_once_is_enough(text: str) -> None:
    assert cleaned(cleaned(text)) == cleaned(text)
