"""The offline embeddings: deterministic, of unit length, near where words are shared."""

import math
from typing import Any

import pytest

from app.gateway.embedding_vectors import floats, vectors_of
from app.gateway.offline_embeddings import embedded

pytestmark = pytest.mark.anyio


async def _vectors(*texts: str, model: str = "offline-embedding-small-1", **more: Any) -> list[list[float]]:
    answer = await embedded({"model": model, "input": list(texts), **more})
    return [list(floats(vector)) for vector in await vectors_of(answer, len(texts))]


def _near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_texts_that_share_words_or_parts_of_them_are_near() -> None:
    asked, same, similar, other = await _vectors(
        "How do I cancel my order?", "HOW do I cancel my order", "Cancelling orders", "Tax law of Portugal"
    )
    assert _near(asked, same) == pytest.approx(1)
    assert 1 > _near(asked, similar) > _near(asked, other) + 0.2


@pytest.mark.parametrize("text", ["word", "a b c", "漢字", "", "?!", "\ud800", "x" * 10_000])
@pytest.mark.parametrize("dimensions", [1, 2, 256])
async def test_a_vector_has_unit_length_whatever_is_in_the_text(text: str, dimensions: int) -> None:
    [vector] = await _vectors(text.encode("utf-8", "replace").decode(), dimensions=dimensions)
    assert math.hypot(*vector) == pytest.approx(1)


async def test_it_has_the_dimensions_of_the_model_whose_name_leads_to_it() -> None:
    assert [len(v) for v in await _vectors("x")] == [1_536]
    assert [len(v) for v in await _vectors("x", model="offline-embedding-large-1")] == [3_072]


async def test_what_was_stored_yesterday_is_found_today() -> None:
    """Numbers of another version would make every stored vector useless."""
    [vector] = await _vectors("Hello, world", dimensions=4)
    assert vector == pytest.approx([0.0, 0.514496, 0.0, -0.857493], abs=1e-6)
