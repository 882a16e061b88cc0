"""Every kind of change that breaks a client is found and named; every kind that breaks none passes."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from app.config_files import SettingsInvalid
from app.entrypoints.web import create_app
from app.settings import load_settings
from gates.compatibility.__main__ import typer_app
from gates.compatibility.operations import breaking
from gates.compatibility.schemas import Comparison, Place
from gates.compatibility.shapes import Document, Unreadable

GONE = object()
NAME = {"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^a"}
BASE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "things", "version": "1.4.0"},
    "paths": {
        "/v1/things": {
            "get": {
                "operationId": "list",
                "security": [{"key": ["things:read"]}],
                "parameters": [
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 100, "default": 20}},
                    {"name": "state", "in": "query", "schema": {"enum": ["open", "closed"]}},
                    {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                    {"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                ],
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
                            },
                            "text/csv": {},
                        }
                    },
                    "404": {"$ref": "#/components/responses/Missing"},
                },
            },
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}},
                        "text/plain": {"schema": {"type": "string"}},
                    }
                },
                "responses": {
                    "201": {"headers": {"Location": {"required": True, "schema": {"type": "string"}}}},
                    "202": {"description": "later"},
                },
            },
        },
        "/v1/things/{thing}": {
            "parameters": [{"name": "thing", "in": "path", "required": True, "schema": {"type": "string"}}],
            "delete": {"responses": {"204": {"description": "gone"}}},
        },
    },
    "components": {
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        "responses": {
            "Missing": {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        },
        "schemas": {
            "NewThing": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {
                    "name": NAME,
                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                    "kind": {"enum": ["big", "small"]},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "tags": {"type": "array", "maxItems": 5, "items": {"type": "string"}},
                    "label": {"type": "string"},
                    "data": {"type": "object"},
                    "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "parent": {"$ref": "#/components/schemas/NewThing"},
                },
            },
            "Thing": {
                "type": "object",
                "required": ["id", "state", "weight"],
                "properties": {
                    "id": {"type": "string", "format": "uuid"},
                    "state": {"enum": ["open", "closed"]},
                    "weight": {"type": "integer"},
                    "note": {"anyOf": [{"type": "string", "maxLength": 80}, {"type": "null"}]},
                    "made": {"allOf": [{"$ref": "#/components/schemas/Made"}], "description": "by whom"},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                },
            },
            "Made": {"type": "object", "required": ["by"], "properties": {"by": {"type": "string"}}},
            "Problem": {
                "type": "object",
                "additionalProperties": False,
                "required": ["code"],
                "properties": {"code": {"type": "string", "x-extensible-enum": ["a.b", "a.c"]}},
            },
        },
    },
}
THINGS, THING = ("paths", "/v1/things"), ("paths", "/v1/things/{thing}")
GET, POST = (*THINGS, "get"), (*THINGS, "post")
SCHEMAS = ("components", "schemas")
TAKEN, SAID = (*SCHEMAS, "NewThing"), (*SCHEMAS, "Thing")
TAKES, SAYS = (*TAKEN, "properties"), (*SAID, "properties")
Steps = tuple[str | int, ...]


def changed(*edits: tuple[Steps, Any]) -> dict[str, Any]:
    document = deepcopy(BASE)
    for path, value in edits:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        if value is GONE:
            del node[path[-1]]
        elif isinstance(node, list) and path[-1] == len(node):
            node.append(value)
        else:
            node[path[-1]] = value
    return document


BREAKING: dict[str, tuple[Steps, Any, str]] = {
    "path removed": (THING, GONE, "DELETE /v1/things/{thing} : is gone"),
    "operation removed": (POST, GONE, "POST /v1/things : is gone"),
    "answer removed": ((*POST, "responses", "202"), GONE, "POST /v1/things answer 202: is answered no more"),
    "media type of an answer removed": (
        (*GET, "responses", "200", "content", "text/csv"), GONE, "answer 200: no longer comes as text/csv",
    ),
    "header removed": (
        (*POST, "responses", "201", "headers"), {}, "POST /v1/things answer 201: no longer has the header Location",
    ),
    "header optional": (
        (*POST, "responses", "201", "headers", "Location", "required"), False, "may come without the header Location",
    ),
    "property of an answer removed": ((*SAYS, "note"), GONE, "GET /v1/things answer 200: no longer has `note`"),
    "property of an answer may be left out": ((*SAID, "required"), ["id", "state"], "may now leave `weight` out"),
    "property of an answer retyped": ((*SAYS, "weight", "type"), "string", "may now be string"),
    "property of an answer widened": ((*SAYS, "weight", "type"), "number", "may now be number"),
    "property of an answer may be null": ((*SAYS, "weight", "type"), ["integer", "null"], "may now be null"),
    "property of an answer without a type": ((*SAYS, "weight"), {}, "may now be array or boolean or null"),
    "value added to an answer": ((*SAYS, "state", "enum"), ["open", "closed", "lost"], 'may now be "lost"'),
    "any value in an answer": ((*SAYS, "state"), {"type": "string"}, "may now be other values than"),
    "limit of an answer wider": ((*SAYS, "note", "anyOf", 0, "maxLength"), 99, "maxLength 99 is wider than 80"),
    "format of an answer changed": ((*SAYS, "id", "format"), "uri", 'promises another format: "uri", not "uuid"'),
    "below a reference": ((*SCHEMAS, "Made", "required"), [], "may now leave `by` out"),
    "error code removed": (
        (*SCHEMAS, "Problem", "properties", "code", "x-extensible-enum"), ["a.b"],
        'GET /v1/things answer 404: no longer says "a.c"',
    ),
    "property of a request demanded": (
        (*TAKEN, "required"), ["name", "size"], "POST /v1/things request body: must now have `size`",
    ),
    "new property of a request demanded": (TAKEN, BASE["components"]["schemas"]["NewThing"] | {
        "required": ["name", "size", "new"]}, "must now have `new`"),
    "property of a request removed": ((*TAKES, "label"), GONE, "no longer knows `label`"),
    "property of a request retyped": ((*TAKES, "size", "type"), "string", "no longer takes integer"),
    "null no longer taken": ((*TAKES, "note"), {"type": "string"}, "no longer takes null"),
    "value of a request removed": ((*TAKES, "kind", "enum"), ["big"], 'no longer takes "small"'),
    "only some values of a request": ((*TAKES, "label", "enum"), ["x"], 'no longer takes other values than "x"'),
    "longest shorter": ((*TAKES, "name", "maxLength"), 40, "maxLength 40 is narrower than 80"),
    "shortest longer": ((*TAKES, "name", "minLength"), 2, "minLength 2 is narrower than 1"),
    "shortest where none was": ((*TAKES, "label", "minLength"), 1, "minLength 1 is narrower than none"),
    "smallest where none was": (
        (*GET, "parameters", 0, "schema", "minimum"), 0, "minimum 0 is narrower than none",
    ),
    "smallest greater": ((*TAKES, "size", "minimum"), 2, "minimum 2 is narrower than 1"),
    "greatest smaller": ((*TAKES, "size", "maximum"), 8, "maximum 8 is narrower than 9"),
    "fewer items": ((*TAKES, "tags", "maxItems"), 4, "maxItems 4 is narrower than 5"),
    "limit where none was": ((*TAKES, "label", "maxLength"), 9, "maxLength 9 is narrower than none"),
    "items different": ((*TAKES, "tags", "uniqueItems"), True, "asks for another uniqueItems"),
    "pattern changed": ((*TAKES, "name", "pattern"), "^b", 'asks for another pattern: "^b", not "^a"'),
    "a word that is not known here": ((*TAKES, "label", "not"), {"const": "x"}, "asks for another not"),
    "closed": ((*TAKES, "data", "additionalProperties"), False, "no longer takes other properties"),
    "other properties of a map named": (
        (*TAKES, "map", "properties"), {"x": {"type": "string"}}, "no longer takes integer",
    ),
    "others typed": ((*TAKES, "data", "additionalProperties"), {"type": "string"}, "no longer takes array or boolean"),
    "body demanded": ((*POST, "requestBody", "required"), True, "POST /v1/things request body: must now be sent"),
    "body removed": ((*POST, "requestBody"), GONE, "POST /v1/things request body: is no longer known"),
    "media type of a body removed": (
        (*POST, "requestBody", "content", "text/plain"), GONE, "request body: no longer takes text/plain",
    ),
    "parameter removed": ((*GET, "parameters", 0), GONE, "GET /v1/things query parameter `limit`: is no longer known"),
    "parameter demanded": ((*GET, "parameters", 0, "required"), True, "query parameter `limit`: must now be sent"),
    "new parameter demanded": (
        (*GET, "parameters", 4), {"name": "q", "in": "query", "required": True, "schema": {}},
        "query parameter `q`: must now be sent",
    ),
    "header demanded": ((*GET, "parameters", 2, "required"), True, "header parameter `x-trace`: must now be sent"),
    "parameter narrower": ((*GET, "parameters", 0, "schema", "maximum"), 50, "maximum 50 is narrower than 100"),
    "value of a parameter removed": ((*GET, "parameters", 1, "schema", "enum"), ["open"], 'no longer takes "closed"'),
    "default changed": ((*GET, "parameters", 0, "schema", "default"), 10, "takes 10 where `limit` is left out, not 20"),
    "parameter written another way": (
        (*GET, "parameters", 3, "explode"), False, "`tag`: is written as form, not as form, exploded",
    ),
    "path parameter narrower": (
        (*THING, "parameters", 0, "schema", "pattern"), "^x", "DELETE /v1/things/{thing} path parameter 1: asks for",
    ),
    "scope added": (
        (*GET, "security"), [{"key": ["things:read", "all"]}], "security: asks for http bearer (all, things:read)",
    ),
    "guard added": ((*POST, "security"), [{"key": []}], "POST /v1/things security: asks for http bearer"),
    "another kind of credential": (
        ("components", "securitySchemes", "key"), {"type": "apiKey", "in": "header", "name": "X-Key"},
        "security: asks for apikey header x-key (things:read)",
    ),
}  # fmt: skip
ADDITIVE: dict[str, list[tuple[Steps, Any]]] = {
    "nothing": [],
    "path": [(("paths", "/v2/things"), {"get": {"responses": {"200": {"description": "x"}}}})],
    "operation": [((*THING, "get"), {"responses": {"200": {"description": "x"}}})],
    "property of an answer": [((*SAYS, "new"), {"type": "string"})],
    "property of a closed answer": [((*SCHEMAS, "Problem", "properties", "hint"), {"type": "string"})],
    "property of an answer that is always there": [((*SAID, "required"), ["id", "state", "weight", "note"])],
    "fewer values in an answer": [((*SAYS, "state", "enum"), ["open"])],
    "values of a limited answer": [((*SAYS, "note"), {"enum": ["short", None]})],
    "narrower answer": [((*SAYS, "note"), {"type": "string", "maxLength": 10})],
    "error": [((*GET, "responses", "409"), {"$ref": "#/components/responses/Missing"})],
    "error removed": [((*GET, "responses", "404"), GONE)],
    "error code": [((*SCHEMAS, "Problem", "properties", "code", "x-extensible-enum"), ["a.b", "a.c", "a.d"])],
    "media type of an answer": [((*GET, "responses", "200", "content", "text/html"), {})],
    "property of a request": [((*TAKES, "new"), {"type": "string"})],
    "property of a request no longer demanded": [((*TAKEN, "required"), [])],
    "value of a request": [((*TAKES, "kind", "enum"), ["big", "small", "tiny"])],
    "wider request": [((*TAKES, "name"), {"type": ["string", "null"], "maxLength": 100})],
    "number for an integer": [((*TAKES, "size"), {"type": "number", "minimum": 0.5, "maximum": 9.0})],
    "opened": [((*TAKEN, "additionalProperties"), True)],
    "parameter": [((*GET, "parameters", 4), {"name": "q", "in": "query", "schema": {}})],
    "media type of a body": [((*POST, "requestBody", "content", "text/html"), {})],
    "less asked for": [((*GET, "security"), [{"key": ["things:read"]}, {}])],
    "names of the document's own": [
        ((*GET, "operationId"), "other"),
        (("paths", "/v1/things/{id}"), BASE["paths"]["/v1/things/{thing}"]),
        (THING, GONE),
        ((*SCHEMAS, "Moved"), BASE["components"]["schemas"]["Made"]),
        ((*SAYS, "made"), {"$ref": "#/components/schemas/Moved"}),
        ((*SAYS, "weight", "title"), "Weight"),
        (("components", "securitySchemes", "bearer"), BASE["components"]["securitySchemes"]["key"]),
        ((*GET, "security"), [{"bearer": ["things:read"]}]),
    ],
    "written otherwise": [((*SAYS, "note"), {"type": ["null", "string"], "maxLength": 80})],
}


@pytest.mark.parametrize("kind", BREAKING)
def test_a_breaking_change_is_found_and_named(kind: str) -> None:
    path, value, told = BREAKING[kind]
    found = breaking(BASE, changed((path, value)))
    lines = [f"{each.operation} {each.where}: {each.change.what}" for each in found]
    assert any(told in line for line in lines), lines
    assert all(each.change.pointer.startswith("#/") and each.change.allowed for each in found)


@pytest.mark.parametrize("kind", BREAKING)
def test_the_way_back_is_not_the_same_change(kind: str) -> None:
    path, value, told = BREAKING[kind]
    back = breaking(changed((path, value)), BASE)
    assert not any(told in f"{each.operation} {each.where}: {each.change.what}" for each in back)


@pytest.mark.parametrize("kind", ADDITIVE)
def test_an_addition_passes(kind: str) -> None:
    assert breaking(BASE, changed(*ADDITIVE[kind])) == []


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(st.sampled_from("pqr"), inner, max_size=2)
    required = st.lists(st.sampled_from("pq"), max_size=1)
    others = st.one_of(st.booleans(), inner)
    return st.builds(
        lambda p, r, o: {"type": "object", "properties": p, "required": r, "additionalProperties": o},
        properties, required, others,
    )  # fmt: skip


BOUNDS = st.integers(-1, 3)
SIMPLE = st.one_of(
    st.just({}),
    st.builds(
        lambda kind: {"type": kind}, st.sampled_from(["null", "boolean", ["string", "null"], ["number", "null"]])
    ),
    st.builds(lambda n: {"type": "string", "maxLength": abs(n)}, BOUNDS),
    st.builds(lambda n: {"type": "string", "minLength": abs(n), "pattern": "a"}, BOUNDS),
    st.builds(lambda n, m: {"type": "integer", "maximum": n, "minimum": m}, BOUNDS, BOUNDS),
    st.builds(lambda n: {"type": "number", "exclusiveMaximum": n}, BOUNDS),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.sampled_from(["a", "aa", 1, None]), min_size=1, unique=True)
    ),
)
DRAWN = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda kinds: {"anyOf": kinds}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda kinds: {"allOf": kinds}, st.lists(inner, min_size=1, max_size=2)),
        st.builds(lambda items, n: {"type": "array", "items": items, "maxItems": abs(n)}, inner, BOUNDS),
        _objects(inner),
    ),
    max_leaves=4,
)
ATOMS: list[Any] = ["", "a", "aa", "abcd", "b", -2, 0, 1, 2, 3.0, 0.5, None, True]
VALUES = [
    *ATOMS, [], *([atom] for atom in ATOMS), [1, "a"], [None, None, None, None], {},
    *({name: atom} for name in "pqs" for atom in ATOMS), *({"p": one, "q": two} for one in ATOMS for two in ATOMS),
    *({"p": [atom]} for atom in ATOMS), *([{"p": atom}] for atom in ATOMS),
]  # fmt: skip


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(DRAWN, DRAWN, st.sampled_from(["other", "wider", "narrower", "same"]))
def test_what_passes_takes_every_value_that_was_taken(old: Any, drawn: Any, how: str) -> None:
    """By a validator that knows nothing of the comparison."""
    new = {"other": drawn, "wider": {"anyOf": [old, drawn]}, "narrower": {"allOf": [old, drawn]}, "same": old}[how]
    nothing = Document({})
    changes = Comparison(nothing, nothing, request=True).changes(Place(old, "#"), Place(new, "#"))
    before, now = Draft202012Validator(old), Draft202012Validator(new)
    refused = [value for value in VALUES if before.is_valid(value) and not now.is_valid(value)]
    assert changes or not refused
    assert how not in {"same", "wider"} or not changes


def test_a_pointer_says_where_the_promise_stands() -> None:
    [found] = {
        each.change for each in breaking(BASE, changed(((*SCHEMAS, "Made", "properties", "by"), {"type": "null"})))
    }
    assert found.pointer == "#/components/schemas/Made/properties/by"


@pytest.mark.parametrize("wrong", ["#/components/schemas/Nobody", "#/components/schemas/Thing", "elsewhere.json"])
def test_a_document_that_cannot_be_followed_is_no_compatible_one(wrong: str) -> None:
    with pytest.raises(Unreadable, match="refers to"):
        breaking(BASE, changed((SAID, {"$ref": wrong})))


def _present() -> dict[str, Any]:
    return create_app(load_settings(environment="test")).openapi()


def _run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(typer_app, list(arguments))
    return done.exit_code, done.output


def test_a_new_service_has_released_nothing_and_passes(tmp_path: Path) -> None:
    code, said = _run("--file", str(tmp_path / "released.json"))
    assert (code, "nothing is released yet" in said) == (0, True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_released_holds_and_is_written_the_same_each_time(tmp_path: Path) -> None:
    file = tmp_path / "released.json"
    assert _run("--file", str(file), "--release")[0] == 0
    first = file.read_bytes()
    assert json.loads(first) == json.loads(json.dumps(_present()))
    assert _run("--file", str(file))[1].strip() == f"compatible: ok, with {_present()['info']['version']}"
    _run("--file", str(file), "--release")
    assert file.read_bytes() == first


@pytest.mark.parametrize(("major", "code"), [(1, 1), (0, 0)])
def test_only_a_new_major_version_breaks_a_promise(tmp_path: Path, major: int, code: int) -> None:
    file = tmp_path / "released.json"
    released = json.loads(json.dumps(_present()))
    released["info"]["version"] = f"{major}.9.9"
    released["paths"]["/v1/gone"] = {"get": {"responses": {"200": {"description": "x"}}}}
    file.write_text(json.dumps(released))
    before = file.read_bytes()
    for more in ([], ["--release"]):
        exit_code, said = _run("--file", str(file), *more)
        assert exit_code == code
        assert "✘ GET /v1/gone: is gone\n  at #/paths/~1v1~1gone/get" in said
        assert ('version = "2.0.0" in config/contract.toml' in said) == bool(code)
    assert (file.read_bytes() == before) == bool(code)


@pytest.mark.parametrize(
    "content", ["{", "{}", "[]", '{"info": {"version": "one"}}', '{"info": {"version": "1.0.0"}, "paths": 1}']
)
def test_a_released_file_that_is_none_cannot_be_judged(tmp_path: Path, content: str) -> None:
    file = tmp_path / "released.json"
    file.write_text(content)
    code, said = _run("--file", str(file))
    assert (code, "released.json cannot be compared" in said) == (2, True)


def test_the_contract_names_who_may_and_leaves_codes_open() -> None:
    document = _present()
    assert document["paths"]["/v1/runs"]["post"]["security"] == [{"HTTPBearer": ["runs:write"]}]
    code = document["components"]["schemas"]["Problem"]["properties"]["code"]
    assert "enum" not in code
    assert "run.cancelled" in code["x-extensible-enum"]


def test_the_version_of_the_contract_is_the_team_s(tmp_path: Path) -> None:
    settings = load_settings(environment="test", config_dir=str(tmp_path))
    assert create_app(settings).openapi()["info"]["version"] == "1.0.0"
    (tmp_path / "contract.toml").write_text('version = "2.1.0"\n')
    assert create_app(settings).openapi()["info"]["version"] == "2.1.0"
    (tmp_path / "contract.toml").write_text('version = "two"\n')
    with pytest.raises(SettingsInvalid, match="version"):
        create_app(settings)
