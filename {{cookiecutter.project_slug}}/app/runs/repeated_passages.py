"""Which arguments of a call repeat words of a text that the run has read, and where in the text.

Compared are the letters as they stand, and then the words alone: what is written around them (Markdown, punctuation,
composed or full-width letters) hides nothing, nor does a sentence of the caller's around a passage. Gate: security.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from app.content.invisible import cleaned
from app.content.json_pointer import json_pointer

MIN_PASSAGE = 8  # characters; shorter ones, such as a priority, are found in any text
MIN_SENTENCE = 20
MAX_PASSAGES = 50  # of one question's arguments, and as many by their words
RUN_OF_WORDS = 5  # that are a passage, wherever they stand
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_WORD = re.compile(r"[^\W_]+")
_NAME = re.compile(r"[^\s\"'<>()\[\]{},;]*[\d@:/.][^\s\"'<>()\[\]{},;]*")  # of a mailbox, a host, an account

Places = dict[str, int]  # by the JSON pointer of an argument


class Passages:
    """What of a call's arguments is looked for."""

    def __init__(self, arguments: Any) -> None:
        said = list(_texts(arguments))
        self._letters = list(islice(((at, part) for at, text in said for part in _parts(text)), MAX_PASSAGES))
        self._words = list(islice(((at, part) for at, text in said for part in _runs(text)), MAX_PASSAGES))

    def places(self, text: str) -> Places:
        """Where a text, as `plain` gives it, says what an argument says; without those that it does not repeat."""
        folded = _folded(text)
        found = {at: place for at, part in reversed(self._letters) if (place := folded.find(part)) >= 0}
        missing = [(at, part) for at, part in reversed(self._words) if at not in found]
        if not missing:
            return found
        joined, starts = _words(text)
        by_words = {
            at: starts[joined.count(" ", 0, place)] for at, part in missing if (place := joined.find(part)) >= 0
        }
        return by_words | found


def plain(text: str) -> str:
    """As the model was given it: without what is hidden, with every space as one and every letter composed."""
    return unicodedata.normalize("NFC", " ".join(cleaned(text).split()))


def _texts(value: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Texts of the arguments, with their place."""
    match value:
        case str():
            yield pointer, value
        case Mapping():
            for name, item in value.items():
                yield from _texts(item, pointer + json_pointer(name))
        case list():
            for index, item in enumerate(value):
                yield from _texts(item, f"{pointer}/{index}")


def _parts(text: str) -> Iterator[str]:
    """A text as a whole, where it is long enough to mean something, and the sentences of a longer one."""
    whole = _folded(plain(text))
    if len(whole) >= MIN_PASSAGE:
        yield whole
    sentences = (_folded(plain(sentence)) for sentence in _SENTENCE_END.split(text))
    yield from (sentence for sentence in sentences if len(sentence) >= MIN_SENTENCE and sentence != whole)


def _runs(text: str) -> Iterator[str]:
    """The same as words, each with a space before and behind it; then names in it, and runs of its words."""
    yield from (joined for part in _parts(text) if len(joined := _words(part)[0]) > MIN_PASSAGE + 1)
    whole = plain(text)
    names = (_words(name)[0] for name in _NAME.findall(whole) if len(name) >= MIN_PASSAGE)
    yield from (name for name in names if len(name) > MIN_PASSAGE)
    words = _words(whole)[0].split()
    runs = (words[at : at + RUN_OF_WORDS] for at in range(0, len(words) - RUN_OF_WORDS + 1, 2))
    yield from (f" {joined} " for run in runs if len(joined := " ".join(run)) >= MIN_SENTENCE)


def _words(text: str) -> tuple[str, list[int]]:
    """The words of a text, each with a space before and behind it, and where each begins."""
    found = list(_WORD.finditer(text))
    return f" {' '.join(_bare(match[0]) for match in found)} ", [match.start() for match in found]


def _bare(word: str) -> str:
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold().replace(" ", "")


def _folded(text: str) -> str:
    # The only letter whose lowercase form is two characters: places in both texts must stay the same.
    return text.replace("\u0130", "i").lower()
