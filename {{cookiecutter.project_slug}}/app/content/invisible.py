"""Characters that a person does not see and a model reads: removed before a provider or an identifier gets them.

Tag characters, zero-width and bidirectional controls, runs of variation selectors and lone surrogates carry hidden
instructions ("ASCII smuggling") or show one text and mean another (Unicode TR 36, CVE-2021-42574). What scripts and
emoji need of them stays: joiners between letters of scripts that join, or between emoji; one selector after its base.
Gate: validation.
"""

import re

JOINERS = "\u200c\u200d"
# Emoji flags of regions are spelt with tag characters; these are the only ones recommended for interchange (UTS 51).
_FLAGS = tuple(
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
_KEPT_FLAG = re.compile("|".join(map(re.escape, _FLAGS)))
_SUSPECT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    "\u2800\U00013430-\U0001345f\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_JOINING_SCRIPTS = re.compile(
    r"[\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17ff\u1800-\u18af\ufb50-\ufdff\ufe70-\ufefe]"
)
_EMOJI = re.compile(r"[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]")
_VARIANTS = re.compile(r"[\u1800-\u18af\u2200-\u22ff\u2e80-\u9fff\ua840-\ua877\uf900-\ufaff\U00020000-\U0003ffff]")
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_MODIFIER = re.compile("[\ufe0f\U0001f3fb-\U0001f3ff]")


def cleaned(text: str) -> str:
    """The text without what cannot be seen in it. Visible text comes back unchanged."""
    if _SUSPECT.search(text) is None:
        return text
    kept: list[str] = []
    at = 0
    for flag in _KEPT_FLAG.finditer(text):
        kept += [_without(text[at : flag.start()]), flag[0]]
        at = flag.end()
    return "".join([*kept, _without(text[at:])])


def has_hidden(text: str) -> bool:
    """Whether there is anything that `cleaned` would remove."""
    return cleaned(text) != text


def _without(text: str) -> str:
    return _SUSPECT.sub(lambda found: found[0] if _needed(text, found.start()) else _replacement(found[0]), text)


def _replacement(char: str) -> str:
    return "\n" if char in "\u2028\u2029\x85" else ""  # these three end a line and are seen as that


def _needed(text: str, at: int) -> bool:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    if text[at] in JOINERS:
        return _joins(text, at, after)
    # One selector chooses the look of the character before it: text or emoji, or the variant of an ideograph or sign.
    if text[at] in "\ufe0e\ufe0f":
        return bool(before) and (before in "0123456789#*" or _EMOJI.fullmatch(before) is not None)
    return _SELECTOR.fullmatch(text[at]) is not None and _VARIANTS.fullmatch(before) is not None


def _joins(text: str, at: int, after: str) -> bool:
    start = at - 1
    while start > 0 and _MODIFIER.fullmatch(text[start]):
        start -= 1
    before = text[start] if start >= 0 else ""
    both = (before, after)
    return all(map(_JOINING_SCRIPTS.fullmatch, both)) or (text[at] == "\u200d" and all(map(_EMOJI.fullmatch, both)))
