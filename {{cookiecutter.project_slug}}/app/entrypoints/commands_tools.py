"""Tool servers from the command line: what they offer, reviewed and pinned by a person."""

import asyncio
import json
from difflib import unified_diff
from typing import Annotated, Any

import httpx2
import typer

from app.entrypoints.command_context import Json
from app.entrypoints.terminal import err, out, show
from app.settings import load_settings
from app.tools.egress import Egress, EgressRefused
from app.tools.pinned import Manifest, ToolServersInvalid
from app.tools.servers import ToolServers

tools = typer.Typer(no_args_is_help=True, help="Tools of other people's servers (config/tools.toml).")


def _open() -> tuple[ToolServers, Egress]:
    settings = load_settings()
    private = settings.environment in {"development", "test"}
    servers = ToolServers.load(settings.config_dir, settings.tool_secrets)
    return servers, Egress(settings.egress_allow, private_addresses=private)


@tools.command("list")
def list_tools(as_json: Json = False) -> None:
    """The tools of every declared server, and whether its pin was reviewed."""
    servers, _ = _open()
    rows = [
        {
            "server": name,
            "tool": tool,
            "effect": use.effect,
            "permission": use.permission,
            "pinned": _state(servers, name),
        }
        for name, server in servers.servers.items()
        for tool, use in server.tools.items()
    ]
    show(rows, as_json=as_json, empty="config/tools.toml declares no server.")


@tools.command("check")
def check(server: str) -> None:
    """Compare what a server says now with its pin; exit 1 when it differs."""
    servers, egress = _open()
    pin, live = servers.pinned(server), _live(servers, server, egress)
    if pin.digest == live.digest:
        out.print(f"{server} is as it was reviewed ({pin.digest[:16]}).", highlight=False)
        return
    _show_change(pin, live)
    err.print(f"{server} has changed since it was reviewed: its calls are refused.", style="red")
    raise typer.Exit(1)


@tools.command("pin")
def pin(
    server: str,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; for machines that pin what people have read.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be pinned and change nothing.")] = False,
) -> None:
    """Read what a server says about its tools and write it down. Undo: git checkout the file."""
    servers, egress = _open()
    live = _live(servers, server, egress)
    try:
        before = servers.pinned(server)
    except ToolServersInvalid:
        before = Manifest({})
    _show_change(before, live)
    if dry_run:
        out.print(f"Would pin {live.digest[:16]}.", highlight=False)
        return
    if not yes and not typer.confirm("A model reads every word of this. Pin it?"):
        raise typer.Exit(1)
    file = servers.pin(server, live)
    out.print(f"Pinned {live.digest[:16]} in {file}: commit it, and restart the service.", highlight=False)


def _live(servers: ToolServers, name: str, egress: Egress) -> Manifest:
    from mcp import MCPError  # noqa: PLC0415 - to list what is declared needs no client

    try:
        return asyncio.run(servers.live(name, egress))
    except EgressRefused as error:
        raise ToolServersInvalid(f"{name}: {error}; add its origin to EGRESS_ALLOW") from None
    except (httpx2.HTTPError, MCPError, TimeoutError) as error:
        raise ToolServersInvalid(f"{name} does not answer ({type(error).__name__})") from None


def _state(servers: ToolServers, name: str) -> str | None:
    try:
        return servers.pinned(name).digest[:16]
    except ToolServersInvalid:
        return None


def _show_change(before: Manifest, after: Manifest) -> None:
    for line in unified_diff(_lines(before), _lines(after), "reviewed", "now", lineterm=""):
        style = {"+": "green", "-": "red"}.get(line[0], "dim")
        out.print(line, style=style, markup=False, highlight=False)


def _lines(manifest: Manifest) -> list[str]:
    shown: Any = {name: dict(tool) for name, tool in manifest.tools.items()}
    # Escaped, so that a description cannot hide characters from its reader.
    return json.dumps(shown, indent=2, sort_keys=True).splitlines() if shown else []
