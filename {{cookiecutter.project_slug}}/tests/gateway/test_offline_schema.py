"""The offline model's values are valid by the schema that asks for them, whatever a pydantic model looks like."""

import datetime as dt
import enum
import ipaddress
import json
import time
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import UUID1, UUID4, AnyUrl, Base64Str, BaseModel, Field, Json, PositiveInt, SecretStr

from app.gateway.offline_values import Facts, fitting

FACTS = Facts("Extract: Ada is 36, born 1815-12-10.", (), ())
NOTHING = Facts("", (), ())


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Numbers(BaseModel):
    fives: int = Field(gt=3, multiple_of=5)
    between: float = Field(gt=0.2, lt=0.3)
    below: float = Field(lt=-2)
    exact: Decimal = Field(max_digits=5, decimal_places=2)
    positive: PositiveInt
    tenths: float = Field(ge=0.25, multiple_of=0.5)
    most: int = Field(le=-7)


class Texts(BaseModel):
    code: str = Field(pattern=r"^[A-Z]{3}-\d{4}(-x)?$")
    padded: str = Field(pattern=r"^[a-z]+$", min_length=8)
    title: str = Field(min_length=60, max_length=70)
    when: dt.datetime
    day: dt.date
    clock: dt.time
    lasting: dt.timedelta
    key: UUID
    first: UUID1
    fourth: UUID4
    link: AnyUrl
    address: ipaddress.IPv4Address
    network: ipaddress.IPv6Network
    raw: bytes
    coded: Base64Str
    secret: SecretStr
    within: Json[list[int]]


class Choices(BaseModel):
    colour: Colour
    level: Literal["low", 3]
    flag: bool
    nothing: None
    maybe: int | None
    either: int | str
    whatever: Any


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    loudness: float


class Collections(BaseModel):
    two: list[int] = Field(min_length=2, max_length=2)
    three: set[int] = Field(min_length=3)
    colours: frozenset[Colour] = Field(min_length=2)
    pair: tuple[int, str]
    any_number: tuple[int, ...]
    named: dict[str, int]
    named_two: dict[str, Cat] = Field(min_length=2)
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = Field(min_length=1)
    rows: list[list[Dog]]


class Node(BaseModel):
    value: int
    next: Optional["Node"]
    children: list["Node"]
    by_name: dict[str, "Node"]


class Add(BaseModel):
    op: Literal["add"]
    left: "Add | Number"
    right: "Add | Number"


class Number(BaseModel):
    value: float


class Nested(BaseModel):
    node: Node
    sum: Add
    pet: Cat | Dog = Field(discriminator="kind")
    not_needed: Texts | None = None
    parent: Optional["Nested"] = None
    history: list["Nested"] = []


MODELS = [Numbers, Texts, Choices, Collections, Node, Add, Nested]


@pytest.mark.parametrize("facts", [FACTS, NOTHING], ids=["facts", "none"])
@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_asks_for_is_valid_by_the_model(model: type[BaseModel], facts: Facts) -> None:
    schema = model.model_json_schema()
    value = fitting(schema, facts)
    Draft202012Validator(schema).validate(value)
    model.model_validate_json(json.dumps(value))


def _strict(schema: Any) -> Any:
    """As OpenAI's strict mode wants it: everything required, nothing else allowed."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items() if key != "default"}
    if isinstance(schema.get("properties"), dict):
        strict |= {"required": list(schema["properties"]), "additionalProperties": False}
    return strict


@pytest.mark.parametrize("model", MODELS)
def test_strict_mode_s_schemas_are_followed_to_the_end_of_their_recursion(model: type[BaseModel]) -> None:
    schema = _strict(model.model_json_schema())
    value = fitting(schema, FACTS)
    Draft202012Validator(schema).validate(value)
    model.model_validate_json(json.dumps(value))


def test_a_list_of_things_shows_one_and_ends_where_it_leads_back_to_itself() -> None:
    value = fitting(Node.model_json_schema(), NOTHING)
    assert value == {"value": 0, "next": None, "children": [], "by_name": {}}
    rows = {"type": "object", "properties": {"rows": {"type": "array", "items": Dog.model_json_schema()}}}
    assert fitting(rows, NOTHING) == {"rows": [{"kind": "dog", "loudness": 0}]}


def test_what_the_task_says_is_used_where_it_is_valid() -> None:
    age: dict[str, Any] = {"type": "integer", "maximum": 40}
    properties = {"born": {"type": "string", "format": "date"}, "age": age}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    assert fitting(schema, FACTS) == {"born": "1815-12-10", "age": 36}
    age["maximum"] = 30
    assert fitting(schema, FACTS) == {"born": "1815-12-10", "age": 0}
    hidden = Facts("Write to [email-1], who is 36.", (), ())
    contact = {"type": "object", "properties": {"email": {"type": "string"}, "age": {"type": "integer"}}}
    assert fitting(contact, hidden) == {"email": "[email-1]", "age": 36}


WORDS = st.sampled_from(["name", "count", "title", "user_id", "url", "tags", "when"])
LOW, MORE = st.integers(-20, 20), st.integers(0, 12)
SCALARS = st.one_of(
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, LOW, MORE),
    st.builds(lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more + 0.5}, LOW, MORE),
    st.builds(lambda step, low: {"type": "integer", "multipleOf": step, "minimum": low}, st.integers(1, 9), LOW),
    st.builds(lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more}, MORE, MORE),
    st.sampled_from(["date", "date-time", "email", "uuid", "uri", "ipv4"]).map(
        lambda name: {"type": "string", "format": name}
    ),
    st.sampled_from([r"^\d{3}$", "^(a|b)+c?$", "[A-Z][a-z]+ [0-9]{2,}", r"^\w+@\w+\.com$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.booleans(), st.none()), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": "x"}, {"type": ["string", "null"]}, {}]),
    st.just({"$ref": "#"}).map(lambda again: {"anyOf": [again, {"type": "null"}]}),
)


def _composed(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    fields = st.dictionaries(WORDS, inner, max_size=4)
    objects = st.builds(
        lambda fields, few, closed: {
            "type": "object",
            "properties": fields,
            "required": sorted(fields)[:few],
            **({"additionalProperties": False} if closed else {}),
        },
        fields,
        st.integers(0, 4),
        st.booleans(),
    )
    lists = st.builds(lambda items, few: {"type": "array", "items": items, "minItems": few}, inner, st.integers(0, 3))
    either = st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    both = st.builds(lambda one, name: {"allOf": [one, {"title": name}]}, inner, WORDS)
    maps = st.builds(
        lambda values, few: {"type": "object", "additionalProperties": values, "minProperties": few},
        inner,
        st.integers(0, 2),
    )
    return st.one_of(objects, lists, either, both, maps)


@given(schema=st.recursive(SCALARS, _composed, max_leaves=12), task=st.sampled_from([FACTS.task, "", "id 7: x"]))
def test_any_schema_of_that_kind_is_answered_with_a_valid_value(schema: dict[str, Any], task: str) -> None:
    root = {"type": "object", "properties": {"answer": schema}, "required": ["answer"], "additionalProperties": False}
    Draft202012Validator(root).validate(fitting(root, Facts(task, (), ())))


ENDLESS = {"$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}}
HUGE: dict[str, Any] = {"type": "array", "minItems": 10**9, "items": {"type": "array", "minItems": 10**9}}
CHAIN = {
    f"D{n}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/D{n + 1}"}}, "required": ["a"]}
    for n in range(2_000)
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5, "maximum": 3}}, "required": ["n"]},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {**ENDLESS, "$ref": "#/$defs/A"},
        {"$defs": CHAIN, "$ref": "#/$defs/D0"},
        HUGE,
        {"type": "object", "minProperties": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "string", "pattern": "(a{1000}){1000}"},
        {"type": "string", "pattern": "(?<=x)a(?!b)"},
        {"type": "string", "pattern": "("},
        {"$ref": "http://127.0.0.1:1/elsewhere"},
        {"$ref": "#/$defs/Nowhere"},
        {"not": {}},
        {"enum": []},
        {"type": "any", "properties": 5, "required": "x"},
        {
            "type": "object",
            "properties": {"a": {"type": "string", "enum": "x", "minLength": "y"}},
            "required": ["a", 1],
        },
        {"multipleOf": 0, "type": "number"},
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_schema_without_small_values_gets_the_nearest_and_soon(schema: dict[str, Any]) -> None:
    began = time.process_time()
    json.dumps(fitting(schema, FACTS))
    # A cut-off that fails makes this minutes or all memory.
    assert time.process_time() - began < 20


def test_the_nearest_keeps_what_can_be_kept() -> None:
    fields = {"bad": {"type": "integer", "minimum": 5, "maximum": 3}, "good": {"enum": ["a", "b"]}}
    schema = {"type": "object", "properties": fields, "required": ["bad", "good"]}
    value = fitting(schema, NOTHING)
    assert value.keys() == {"bad", "good"}
    assert value["good"] == "a"
