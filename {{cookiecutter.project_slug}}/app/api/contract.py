"""The published contract: OpenAPI 3.1 with every status that an operation can answer, errors in their one shape.

What the framework writes by itself leaves the errors out, and describes a 422 that this service never answers.
Gate: validation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field

from app.api.examples import examples
from app.api.guards import PUBLIC
from app.api.idempotency import VISIBLE
from app.api.openai_addresses import OPENAI_PATHS
from app.api.problems import MEDIA_TYPE
from app.budgets.money import pattern_at_most
from app.config_files import read_config
from app.errors import CATALOGUE
from app.runs.limits import RunLimits

ANYWHERE = (400, 408, 413, 422, 429, 431, 500, 503)  # 422: an unknown parameter
GUARDED = (401, 403)
ASKING_A_PROVIDER = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings")  # within the request itself
PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457. Input is never repeated.",
    "required": ["type", "title", "status", "detail", "code", "request_id", "retryable"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        # No `enum`: a client made from it today must read a code of tomorrow.
        "code": {"type": "string", "pattern": r"^[a-z]+\.[a-z_]+$", "x-extensible-enum": sorted(CATALOGUE)},
        "request_id": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after_s": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "reason"],
                "additionalProperties": False,
                "properties": {"pointer": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
    "examples": [
        {
            "type": "/problems/resource.not_found", "title": "Not found.", "status": 404, "detail": "Not found.",
            "code": "resource.not_found", "request_id": "01a1f2c4-0000-7000-8000-000000000000", "retryable": False,
        },
    ],
}  # fmt: skip


CODE = r"^[A-Za-z0-9_.\[\]-]{1,100}$"
OPENAI_ERROR: dict[str, Any] = {
    "type": "object",
    "description": "As clients of OpenAI's interface read it; `code` is one of this service's or of the provider's.",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param", "request_id"],
            "additionalProperties": False,
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string", "pattern": CODE, "x-extensible-enum": sorted(CATALOGUE)},
                "param": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
        }
    },
}


NAMING_MODELS = ("ChatCompletionCreate", "ResponseCreate")  # where more names are taken than are offered
# Where this service knows which values there are: by the name of a body and of its field.
KNOWN = {
    ("RunCreate", "feature"): "features",
    ("EmbeddingCreate", "model"): "embedding models",
    ("KeyCreate", "scopes"): "permissions",
    ("OwnKeyCreate", "scopes"): "permissions",
    ("KeyClaimCreate", "scopes"): "permissions",
    ("MemberCreate", "roles"): "roles",
    ("MemberChange", "roles"): "roles",
    ("ElevationCreate", "role"): "lendable roles",
}


class ContractFile(BaseModel):
    """config/contract.toml: the version of the contract, not of the software behind it."""

    model_config = ConfigDict(extra="forbid")
    version: str = Field("1.0.0", pattern=r"^[1-9][0-9]*\.[0-9]+\.[0-9]+$")

    @classmethod
    def load(cls, path: Path) -> "ContractFile":
        return read_config(path, cls)


def install(app: FastAPI, known: Mapping[str, Sequence[str]], limits: RunLimits, version: str) -> None:
    """Have the application publish the whole contract at /openapi.json.

    `known` are the features, roles and permissions of this very service, `limits` what a run may ask for at most."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, known, limits, version)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI, known: Mapping[str, Sequence[str]], limits: RunLimits, version: str) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= {"Problem": PROBLEM, "OpenAIError": OPENAI_ERROR}
    _say_what_is_known(schemas, known)
    _bounded(schemas["Limits"]["properties"], limits)
    for name, example in examples(known).items():
        schemas[name]["examples"] = [example]
    responses = components.setdefault("responses", {})
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _parameters(operation)
            for status in _statuses(path, operation):
                media_type, schema = (
                    ("application/json", "OpenAIError") if path in OPENAI_PATHS else (MEDIA_TYPE, "Problem")
                )
                name = f"{schema}{status}"
                responses[name] = _response(status, media_type, schema)
                operation["responses"][str(status)] = {"$ref": f"#/components/responses/{name}"}
            if "422" in operation["responses"] and "$ref" not in operation["responses"]["422"]:
                del operation["responses"]["422"]
    return document


def _say_what_is_known(schemas: dict[str, Any], known: Mapping[str, Sequence[str]]) -> None:
    for body in NAMING_MODELS:
        schemas[body]["properties"]["model"]["x-extensible-enum"] = sorted(known["models"])
    for (body, field), what in KNOWN.items():
        _narrowed(schemas[body]["properties"][field], sorted(known[what]))


def _parameters(operation: dict[str, Any]) -> None:
    """What the framework cannot say: a header or query that is left out is not null."""
    for parameter in operation.get("parameters", ()):
        present = [kind for kind in parameter["schema"].pop("anyOf", ()) if kind != {"type": "null"}]
        parameter["schema"] |= present[0] if present else {}
        if parameter["name"].lower() == "idempotency-key":  # where it is missing, that is an error of its own
            parameter |= {"required": True, "schema": {"type": "string", "pattern": VISIBLE.pattern}}


def _narrowed(schema: dict[str, Any], values: Sequence[str]) -> None:
    """Say which values there are, wherever in it a text is; where there are none, none will do."""
    if not values:
        return
    if schema.get("type") == "string":
        schema.pop("pattern", None)
        schema["enum"] = list(values)
    for inner in (schema.get("items"), *schema.get("anyOf", ())):
        if inner:
            _narrowed(inner, values)


def _bounded(properties: dict[str, Any], limits: RunLimits) -> None:
    """Say how far each limit of a run may go here."""
    for name, most in limits.most.items():
        if name == "cost_micro":
            _present(properties["cost_usd"])["pattern"] = pattern_at_most(most)
        else:
            _present(properties[name])["maximum"] = most


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    """What a value that may be null is otherwise."""
    present: dict[str, Any]
    [present] = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    return present


def _statuses(path: str, operation: dict[str, Any]) -> set[int]:
    """The errors that this operation can answer, besides those that it declares itself."""
    statuses = set(ANYWHERE)
    if path not in PUBLIC:
        statuses |= {*GUARDED}
    if operation.get("requestBody"):
        statuses |= {404, 409, 415}
    if any(parameter["in"] == "path" for parameter in operation.get("parameters", ())):
        statuses |= {404, 409}
    if path == "/v1/approvals/{approval_id}/decision":
        statuses |= {410}
    if path in {"/v1/runs", *ASKING_A_PROVIDER} and operation.get("requestBody"):
        statuses |= {402}
    if path in ASKING_A_PROVIDER:
        statuses |= {502, 504}
    return statuses - {int(status) for status in operation["responses"] if status != "422"}


def _response(status: int, media_type: str, schema: str) -> dict[str, Any]:
    codes = sorted(code for code, row in CATALOGUE.items() if row.status == status)
    headers = {401: ["WWW-Authenticate"], 429: ["Retry-After", "RateLimit", "RateLimit-Policy"], 503: ["Retry-After"]}
    described: dict[str, Any] = {
        "description": "; ".join(f"`{code}`: {CATALOGUE[code].title}" for code in codes),
        "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    if status in headers:
        described["headers"] = {name: {"schema": {"type": "string"}} for name in headers[status]}
    return described
