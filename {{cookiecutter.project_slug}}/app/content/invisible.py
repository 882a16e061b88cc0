"""Characters that a person does not see and a model reads: removed before a provider or an identifier gets them.

Tag characters, zero-width and bidirectional controls, variation selectors, characters for private use or of no
assignment, and lone surrogates carry hidden instructions ("ASCII smuggling") or show one text and mean another (Unicode
TR 36, CVE-2021-42574). What scripts and emoji need of them stays: joiners where they show (`joiners`), and a selector
in a sequence that Unicode has registered. The registry of ideographic variants (UTS 37) has up to a hundred for one
ideograph, room enough for a message: those are removed, and the ideograph stays.
Gate: validation.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from wcwidth.table_vs16 import VS16_NARROW_TO_WIDE

from app.content.joiners import JOINER, NON_JOINER, shows

JOINERS = NON_JOINER + JOINER
# Emoji flags of regions are spelt with tag characters; these are the only ones recommended for interchange (UTS 51).
_FLAGS = tuple(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
_KEPT_FLAG = re.compile("|".join(map(re.escape, _FLAGS)))
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    "\ue000-\uf8ff\U000f0000-\U0010ffff"  # for private use
    "\u2800\U00013430-\U0001345f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Bases with a look as text and one as emoji (UTS 51), from the kept table of a terminal library.
_TWO_LOOKS = frozenset(
    chr(code) for ranges in VS16_NARROW_TO_WIDE.values() for first, last in ranges for code in range(first, last + 1)
)
_KEYCAPS = "0123456789#*"
# Standardized variants (UCD, StandardizedVariants.txt) of mathematical signs and of punctuation.
_VARIANTS = {
    "\ufe00": frozenset(
        "\u2205\u2229\u222a\u2268\u2269\u2272\u2273\u228a\u228b\u2293\u2294\u2295\u2297\u229c\u22da\u22db\u2a3c\u2a3d\u2a9d\u2a9e"
        "\u2aac\u2aad\u2acb\u2acc\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f"
    ),
    "\ufe01": frozenset("\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f"),
    "\ufe0e": _TWO_LOOKS,
    "\ufe0f": _TWO_LOOKS,
}


def cleaned(text: str) -> str:
    """The text without what cannot be seen in it. Visible text comes back unchanged."""
    return _rewritten(text, _replacement)


def escaped(text: str) -> str:
    """The text with what `cleaned` would remove spelled out, such as ⟨U+202E⟩, for a person who decides about it."""
    return _rewritten(text, lambda char: f"⟨U+{ord(char):04X}⟩")


def escaped_values(value: Any) -> Any:
    """JSON data with every text and every name in it `escaped`."""
    match value:
        case str():
            return escaped(value)
        case Mapping():
            return {escaped(str(name)): escaped_values(item) for name, item in value.items()}
        case list() | tuple():
            return [escaped_values(item) for item in value]
    return value


def has_hidden(text: str) -> bool:
    """Whether there is anything that `cleaned` would remove."""
    return cleaned(text) != text


def hidden_in(text: str) -> list[bool]:
    """Of each character whether `cleaned` would remove it."""
    marked = _rewritten(text, lambda _: "\0")  # one for one; NUL itself is removed as well
    return [char == "\0" for char in marked]


def _rewritten(text: str, replacement: Callable[[str], str]) -> str:
    if not text.isascii() and (unassigned := [c for c in set(text) if unicodedata.category(c) == "Cn"]):
        text = text.translate({ord(char): replacement(char) for char in unassigned})
    if _SUSPECT.search(text) is None:
        return text
    kept: list[str] = []
    at = 0
    for flag in _KEPT_FLAG.finditer(text):
        kept += [_without(text[at : flag.start()], replacement), flag[0]]
        at = flag.end()
    return "".join([*kept, _without(text[at:], replacement)])


def _without(text: str, replacement: Callable[[str], str]) -> str:
    return _SUSPECT.sub(lambda found: found[0] if _needed(text, found.start()) else replacement(found[0]), text)


def _replacement(char: str) -> str:
    return "\n" if char in "\u2028\u2029\x85" else ""  # these three end a line and are seen as that


def _needed(text: str, at: int) -> bool:
    if text[at] in JOINERS:
        return shows(text, at)
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    return before in _VARIANTS.get(text[at], ()) and (before not in _KEYCAPS or after == "\u20e3")
