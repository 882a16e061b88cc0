"""What regular expressions may not use while Python 3.11 is supported."""

import re

import pytest

from app.content.personal import find
from app.settings import ROOT

# Before Python 3.11.5 a possessive group takes what its last round had to give back (CPython issue 106052); Debian 12
# has 3.11.2. Of a single class, as in `\d{1,20}+`, it is right everywhere.
_POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{\d*,?\d*\})\+")


def test_no_group_is_repeated_possessively() -> None:
    files = list((ROOT / "app").rglob("*.py"))
    assert len(files) > 50
    lines = [(file, line) for file in files for line in file.read_text().splitlines()]
    assert [(file.name, line) for file, line in lines if _POSSESSIVE_GROUP.search(line)] == []


@pytest.mark.parametrize("planted", [r"(?:[\w-]|x){16,400}+", r"(a|b)*+", r"(a)?+c", r"(a)++"])
def test_a_planted_one_is_found(planted: str) -> None:
    assert _POSSESSIVE_GROUP.search(planted)


def test_a_key_ends_before_the_full_stop_behind_it() -> None:
    """As that fault showed itself."""
    key = f"sk-proj-{'a1B2c3D4' * 5}"
    text = f"Write to {key}."
    assert [text[each.start : each.end] for each in find(text)] == [key]
