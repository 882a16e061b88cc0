"""`make e2e`: a typed Python client is generated from the running service's own contract, and plays the critical flow.

The generator (openapi-python-client) knows nothing of the service but its OpenAPI document; a warning of it is a fault
of the document. mypy then holds the flow to the generated types, and the flow holds the service to them. The service
runs with the rig's features, so the flow outlives the example feature.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console

from app.settings import ROOT
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.provider import calls
from gates.rig.world import World, final, opened

GENERATOR = "openapi-python-client@0.29.1"  # it needs another typer than the service: an environment of its own
PACKAGE = "service_client"
NEEDED = ("attrs", "httpx")  # by the generated client
ROLES = {
    "writer": ["probe_writer", "probe_approver"],  # may approve, but not what they asked for themselves
    "approver": ["probe_approver"],
    "admin": ["probe_admin"],
}
POLICY = """
[[rule]]
id = "everything"
decision = "ask"
reason = "the flow shows an approval"
"""
out = Console(highlight=False)


def main() -> None:
    """Generate the client and play the flow; exit 1 where either fails, 2 where a tool is missing."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None or not all(find_spec(name) for name in NEEDED):
        print("the client's parts are not installed here; run: make e2e", file=sys.stderr)
        raise SystemExit(2)
    isolate()
    with tempfile.TemporaryDirectory(prefix="e2e-") as folder:
        home = Path(folder)
        with sqlite_databases(home) as new, opened(new(), home, policy=POLICY) as world:
            _generate(uv, world, home)
            _typed(home)
            sys.path.insert(0, str(home))
            raise SystemExit(0 if _played(world) else 1)


def _generate(uv: str, world: World, home: Path) -> None:
    document, config = home / "openapi.json", home / "client.json"
    document.write_text(world.service.call(None, "GET", "/openapi.json").text, encoding="utf-8")
    config.write_text(json.dumps({"package_name_override": PACKAGE, "post_hooks": []}))
    newest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["exclude-newer"]
    tool = [uv, "tool", "run", "--quiet", "--python", sys.executable, "--exclude-newer", newest, GENERATOR]
    there = subprocess.run([*tool, "--version"], check=False, capture_output=True, text=True)
    if there.returncode != 0:
        print(f"{GENERATOR} cannot be had: {there.stderr.strip()[-500:]}", file=sys.stderr)
        raise SystemExit(2)
    made = subprocess.run(
        [*tool, "generate", "--path", document, "--config", config, "--meta", "none", "--fail-on-warning",
         "--output-path", home / PACKAGE],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    _require(made, "a client is generated from the service's contract, without a warning")


def _typed(home: Path) -> None:
    settings = home / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\nplugins = pydantic.mypy\n")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", settings, "--cache-dir", home / "mypy",
         "-p", PACKAGE, "-m", "gates.e2e.flow"],
        cwd=ROOT, env={**os.environ, "MYPYPATH": str(home)}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    _require(checked, "mypy, strict: the client, and the flow against the client's types")


def _require(done: subprocess.CompletedProcess[str], what: str) -> None:
    _tell(what, holds=done.returncode == 0)
    if done.returncode != 0:
        print(done.stdout + done.stderr)
        raise SystemExit(1)


def _played(world: World) -> bool:
    """Whether every step of the flow held; the first that did not ends it."""
    flow = importlib.import_module("gates.e2e.flow")  # it needs the client that was made just now
    people = world.people(*ROLES.values())
    keys = {name: person.key for name, person in zip(ROLES, people, strict=True)}
    task = world.model.script(calls("probe_write", {"text": "as agreed"}), final("It is written down.")).task()
    try:
        for what in flow.steps(world.service.base_url, keys, people[-1].principal.key_id, task):
            _tell(what, holds=True)
    except flow.WRONG as error:
        _tell(f"{type(error).__name__}: {error}", holds=False)
        print("\n".join(world.service.log.read_text().splitlines()[-10:]))
        return False
    once = [effect.arguments for effect in world.effects.happened] == [{"text": "as agreed"}]
    _tell("at its back end the approved action happened, once", holds=once)
    return once


def _tell(what: str, *, holds: bool) -> None:
    out.print(f" [{'green' if holds else 'red'}]{'✔' if holds else '✘'}[/] {what}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
