"""docs/chat-fields.md against the declarations it is made from, and these against the types of the `openai` package."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import pytest
from openai.types.chat import completion_create_params
from openai.types.chat.chat_completion_content_part_image_param import ImageURL
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

from app.api.chat_fields import KINDS, Fate, fates, kinds_of
from app.api.chat_messages import ImageUrl
from app.api.chat_request import ChatCompletionCreate
from app.settings import ROOT
from scripts.chat_fields_page import page, rows

ROWS = rows()
REQUESTS = (
    completion_create_params.CompletionCreateParamsNonStreaming,
    completion_create_params.CompletionCreateParamsStreaming,
)


def _typed_dicts(hint: Any) -> Iterator[Any]:
    if is_typeddict(hint):
        yield hint
    else:
        for each in get_args(hint):
            yield from _typed_dicts(each)


def _named(kind: Any, within: str = "") -> Iterator[str]:
    """The paths of a type's fields, as deep as the page tells them apart."""
    for name, hint in get_type_hints(kind).items():
        if name in KINDS:
            continue
        path = f"{within}{name}"
        yield path
        if path in ROWS and ROWS[path].whole:
            continue
        for inner in _typed_dicts(hint):
            for value in kinds_of(get_type_hints(inner)):
                place = f"{path}[{value}]" if value else path
                yield place
                if not (place in ROWS and ROWS[place].whole):
                    yield from _named(inner, f"{place}.")


def _values(hint: Any) -> set[str]:
    if get_origin(hint) is Literal:
        return {str(value) for value in get_args(hint)}
    return {value for each in get_args(hint) for value in _values(each)}


def test_the_page_is_made_from_the_code() -> None:
    assert (ROOT / "docs" / "chat-fields.md").read_text() == page(), "run: python -m scripts.chat_fields_page"


@pytest.mark.parametrize("request_type", REQUESTS)
def test_every_field_that_openai_names_is_on_the_page(request_type: Any) -> None:
    named = set(_named(request_type))
    assert len(named) > 80
    assert {"messages[user].content[image_url].image_url.detail", "tools[function].function.strict"} <= named
    assert named <= ROWS.keys(), f"decide on these in app/api/chat_*.py: {sorted(named - ROWS.keys())}"


@pytest.mark.parametrize(
    ("model", "name", "theirs"),
    [
        *((ChatCompletionCreate, name, REQUESTS[0]) for name in ("reasoning_effort", "verbosity", "service_tier")),
        (ChatCompletionCreate, "modalities", REQUESTS[0]),
        (ImageUrl, "detail", ImageURL),
    ],
)
def test_every_value_that_openai_names_is_taken_or_refused_in_a_sentence(
    model: type[BaseModel], name: str, theirs: Any
) -> None:
    taken = _values(model.model_fields[name].annotation)
    refused = {path for path, told in fates(model) if told.fate is Fate.REFUSED}
    values = _values(get_type_hints(theirs)[name])
    assert values
    assert {value for value in values - taken if f"{name}[{value}]" not in refused} == set()


def test_what_is_refused_or_dropped_says_why() -> None:
    silent = [path for path, told in ROWS.items() if told.fate in {Fate.REFUSED, Fate.DROPPED} and not told.why]
    assert silent == []


def test_a_field_that_does_not_say_what_happens_to_it_is_a_mistake() -> None:
    class Undecided(BaseModel):
        something: str

    with pytest.raises(TypeError, match="does not say what happens"):
        list(fates(Undecided))
