"""Tool servers: what is declared, pinned and compared. The proof of SEC-12 drives a running service."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.config_files import SettingsInvalid
from app.policy.decision import Effect
from app.tools.egress import Egress, EgressRefused
from app.tools.pinned import Manifest, ToolServersInvalid
from app.tools.servers import ToolServers
from gates.rig.tool_server import ToolServer
from gates.rig.tool_server import tool_server as opened_server

pytestmark = pytest.mark.anyio
DECLARED = '[servers.rig]\nurl = "{url}"\n[servers.rig.tools.find]\neffect = "{effect}"\npermission = "contacts:read"\n'


@pytest.fixture(scope="module")
def server() -> Iterator[ToolServer]:
    with opened_server() as made:
        yield made


def _servers(folder: Path, server: ToolServer, effect: str = "read") -> ToolServers:
    (folder / "tools.toml").write_text(DECLARED.format(url=server.url, effect=effect))
    return ToolServers.load(folder, {"rig": SecretStr("token-of-rig"), "other": SecretStr("token-of-other")})


def _egress(server: ToolServer) -> Egress:
    return Egress([server.url.removesuffix("/mcp/")], private_addresses=True)


async def test_a_server_gets_its_own_secret_and_no_other(tmp_path: Path, server: ToolServer) -> None:
    servers = _servers(tmp_path, server)
    servers.pin("rig", await servers.live("rig", _egress(server)))
    [spec] = servers.specs("rig")
    assert (spec.name, spec.effect, spec.permission) == ("rig_find", Effect.READ, "contacts:read")
    assert {headers.get("authorization") for headers in server.headers} == {"Bearer token-of-rig"}
    assert "token-of-other" not in str(server.headers)


async def test_a_server_that_is_not_on_the_allow_list_is_not_reached(tmp_path: Path, server: ToolServer) -> None:
    before = len(server.headers)
    with pytest.raises(EgressRefused):
        await _servers(tmp_path, server).live("rig", Egress([]), timedelta(seconds=2))
    assert len(server.headers) == before


async def test_nothing_is_offered_before_somebody_has_read_it(tmp_path: Path, server: ToolServer) -> None:
    servers = _servers(tmp_path, server)
    with pytest.raises(ToolServersInvalid, match="app tools pin rig"):
        servers.specs("rig")
    servers.pin("rig", Manifest({"another": {"description": "", "schema": {}, "result": {}}}))
    with pytest.raises(ToolServersInvalid, match="has no find"):
        servers.specs("rig")
    with pytest.raises(ToolServersInvalid, match="declares no server crm"):
        servers.specs("crm")


@pytest.mark.parametrize("name", ["url", "callbackUrl", "target_host", "URL"])
async def test_a_remote_read_that_goes_where_the_model_says_is_refused(
    tmp_path: Path, server: ToolServer, name: str
) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": "string"}}}
    servers = _servers(tmp_path, server)
    servers.pin("rig", Manifest({"find": {"description": "Fetch.", "schema": schema, "result": {}}}))
    with pytest.raises(ToolServersInvalid, match="external_post"):
        servers.specs("rig")
    assert _servers(tmp_path, server, "external_post").specs("rig")


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, "refers to"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "refers to"),
        ({"properties": {"a": {"pattern": "(?=x)x"}}}, "pattern"),
        ({"properties": {"a": {"type": 7}}}, "not valid"),
        ({"type": "object"}, "external_post"),
        ({"properties": {"options": {"properties": {"url": {}}}}}, "external_post"),
        ({"properties": {"where": {"type": "string", "format": "uri"}}}, "external_post"),
    ],
)
async def test_a_schema_that_cannot_be_held_to_is_refused(
    tmp_path: Path, server: ToolServer, schema: dict[str, Any], told: str
) -> None:
    servers = _servers(tmp_path, server)
    servers.pin("rig", Manifest({"find": {"description": "Find.", "schema": schema, "result": {}}}))
    with pytest.raises(ToolServersInvalid, match=told):
        servers.specs("rig")


async def test_a_pattern_takes_linear_time_and_more_fields_are_refused(tmp_path: Path, server: ToolServer) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "additionalProperties": True}
    servers = _servers(tmp_path, server)
    servers.pin("rig", Manifest({"find": {"description": "Find.", "schema": schema, "result": {}}}))
    [spec] = servers.specs("rig")
    # An engine that goes back would take hours over these forty letters.
    for arguments in ({"a": "a" * 40 + "!"}, {"a": "aa", "b": 1}):
        with pytest.raises(ValidationError):
            spec.arguments.model_validate(arguments)
    spec.arguments.model_validate({"a": "aaa"})


@pytest.mark.parametrize("text", ["[servers.rig]\n", "not toml [", '[servers.rig]\nurl = "ftp://x"\n'])
async def test_a_file_that_cannot_be_used_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "tools.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=r"tools\.toml cannot be used:"):
        ToolServers.load(tmp_path, {})
