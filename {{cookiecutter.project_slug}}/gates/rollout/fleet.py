"""A fleet on this machine for drills: HAProxy, two slots of plain processes, PostgreSQL, and a canary tenant."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.bootstrap import open_runtime
from app.entrypoints.schema import migrate
from app.rollout.record import Record
from app.runtime import Runtime
from app.settings import ROOT, load_settings
from gates.rig import people
from gates.rig.service import free_ports, wait_for
from gates.rig.world import NO_LIMITS, models
from gates.rollout.version import DELAY, ERRORS, PAUSE

CONFIGURATION = ROOT / "deploy" / "compose" / "haproxy.cfg"
DELAY_S, PAUSE_S = 0.5, 0.25
GOOD, NEXT, BAD, SLOW = "sha256:good", "sha256:next", "sha256:bad", "sha256:slow"
VERSIONS = {
    GOOD: {DELAY: str(DELAY_S)},
    NEXT: {DELAY: str(DELAY_S)},
    BAD: {DELAY: str(2 * DELAY_S), ERRORS: "0.3"},
    SLOW: {DELAY: str(2 * DELAY_S)},
}
# The judge of the product, at the pace of a drill: minutes become seconds, and margins what a drill's traffic shows.
RULES = """
[judging]
false_aborts = 0.01
total_minutes = 15
telemetry_lost_after_s = 60
clock_tolerance_s = 30

[[stages]]
weight_percent = 5
margin_points = 5
looks = 6
least_minutes = 0.1

[[stages]]
weight_percent = 50
margin_points = 2
looks = 8
least_minutes = 0.1

[[stages]]
weight_percent = 100
least_minutes = 0.05
"""


class NoHAProxy(Exception):
    """HAProxy is not installed on this machine."""


def require_haproxy() -> str:
    """Its path. Raises NoHAProxy with the one sentence that says what to do."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NoHAProxy("haproxy is not installed, so this was not assessed here (Debian: apt-get install haproxy).")
    if not CONFIGURATION.exists():
        raise NoHAProxy(
            "deploy/compose/haproxy.cfg is not here (another deploy_target was chosen), so nothing was drilled."
        )
    return found


@dataclass
class Drilled:
    """The fleet as its operator has it: a folder with fleet.toml, and the command line."""

    folder: Path
    port: int  # of HAProxy
    environment: dict[str, str]
    user_key: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def record(self) -> Record:
        return Record(self.folder / "rollouts")

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """`app rollout …` beside whatever else happens."""
        command = [sys.executable, "-m", "app", "rollout", *words]
        environment = {**os.environ, **self.environment}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *words: str, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words)
        told, wrong = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, told, wrong)

    def slot(self, what: str, slot: str) -> None:
        command = [sys.executable, "-m", "gates.rollout.slot", what, str(self.folder)]
        subprocess.run(command, env={**os.environ, "SLOT": slot}, check=True)

    def releases(self, *more: dict[str, Any]) -> None:
        """Every version of the drill, and what it says beyond its digest."""
        given = {each["digest"]: each for each in more}
        lines = []
        for number, digest in enumerate(VERSIONS):
            release = {"release": f"1.{number}.0", "digest": digest, **given.get(digest, {})}
            lines += ["[[releases]]", *(f"{name} = {json.dumps(value)}" for name, value in release.items()), ""]
        (self.folder / "releases.toml").write_text("\n".join(lines))


@contextmanager
def fleet(
    folder: Path, database_url: str, *, stop: str = "stop", drain_s: float = 60, rules: str = RULES
) -> Iterator[Drilled]:
    """HAProxy and two free slots. `stop`: `kill` ends versions without asking them, as no fleet should."""
    haproxy = require_haproxy()
    folder.mkdir(parents=True, exist_ok=True)
    public, blue, blue_inside, green, green_inside = free_ports(5)
    config = configuration(folder, rules)
    common = common_settings(database_url, config)
    (folder / "common.json").write_text(json.dumps(common))
    for slot, port, inside in (("blue", blue, blue_inside), ("green", green, green_inside)):
        (folder / f"{slot}.json").write_text(json.dumps({"PORT": str(port), "OPERATIONS_PORT": str(inside)}))
    for digest, settings in VERSIONS.items():
        (folder / f"{digest.replace(':', '-')}.json").write_text(json.dumps(settings))
    migrate(load_settings(database_url=database_url, environment="test"))
    user, canary = keys(database_url, config)
    slots = {"blue": (blue, blue_inside), "green": (green, green_inside)}
    (folder / "fleet.toml").write_text(_fleet_file(folder, slots, stop, drain_s))
    environment = {"ROLLOUT_KEY": canary, "ROLLOUT_FLEET": str(folder / "fleet.toml"), **common}
    drilled = Drilled(folder, public, environment, user)
    drilled.releases()
    variables = {
        "HAPROXY_SOCKET": str(folder / "haproxy.sock"), "HAPROXY_STATE": str(folder / "haproxy.state"),
        "HAPROXY_BIND": f"127.0.0.1:{public}",
        "BLUE_ADDRESS": f"127.0.0.1:{blue}", "GREEN_ADDRESS": f"127.0.0.1:{green}",
    }  # fmt: skip
    with (folder / "haproxy.log").open("wb") as log:
        balancer = subprocess.Popen(
            [haproxy, "-db", "-f", str(CONFIGURATION)], env={**os.environ, **variables}, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: _listens(balancer, folder))
        yield drilled
    finally:
        for slot in slots:
            drilled.slot("stop", slot)
        balancer.terminate()
        balancer.wait(30)


def _listens(balancer: "subprocess.Popen[bytes]", folder: Path) -> bool:
    if balancer.poll() is not None:
        raise RuntimeError(f"haproxy ended: {(folder / 'haproxy.log').read_text()[-1_000:]}")
    return (folder / "haproxy.sock").exists()


def common_settings(database_url: str, config: Path) -> dict[str, str]:
    """Of every version of a drill."""
    return {
        "ENVIRONMENT": "test", "DATABASE_URL": database_url, "CONFIG_DIR": str(config), "MODEL_PROVIDER": "offline",
        "SESSION_SECRET": "of-a-drill-" + "x" * 32, "EMBEDDED_WORKER": "false", "LOG_LEVEL": "warning",
        PAUSE: str(PAUSE_S), "PYTHONPATH": str(ROOT), "ENV_FILE": "",
    }  # fmt: skip


def configuration(folder: Path, rules: str) -> Path:
    """The product's, without limits, with a model whose price needs no library, and the drill's stages."""
    config = folder / "config"
    shutil.copytree(ROOT / "config", config)
    (config / "limits.toml").write_text(NO_LIMITS)
    (config / "rollout.toml").write_text(rules)
    (config / "models.toml").write_text(models())
    names = ("global", "tenant", "member")
    caps = [f'{name}_{period}_usd = "100000"' for name in names for period in ("daily", "monthly")]
    (config / "budgets.toml").write_text("\n".join(["[caps]", *caps, 'run_usd = "10"', 'soft_step = "0.8"', ""]))
    return config


def keys(database_url: str, config: Path) -> tuple[str, str]:
    """Of somebody who uses the service, and of the canary tenant."""

    async def make() -> tuple[str, str]:
        settings = load_settings(database_url=database_url, environment="test", config_dir=config)
        async with open_runtime(settings, durable=False) as runtime:
            return await _key(runtime), await _key(runtime)

    return asyncio.run(make())


async def _key(runtime: Runtime) -> str:
    return (await people.person(runtime, await people.tenant(runtime), ["member"])).key


def _fleet_file(folder: Path, slots: dict[str, tuple[int, int]], stop: str, drain_s: float) -> str:
    def command(*words: str) -> str:
        return json.dumps([sys.executable, "-m", *words])

    lines = [
        "[haproxy]", 'socket = "haproxy.sock"', 'saved_state = "haproxy.state"', "",
        "[commands]",
        f"start = {command('gates.rollout.slot', 'start', str(folder))}",
        f"stop = {command('gates.rollout.slot', stop, str(folder))}",
        f"golden_cases = {command('gates.rollout.version', 'evals', 'run', '--json')}", "",
        "[times]", "healthy_s = 120", f"drain_s = {drain_s}", "scrape_every_s = 1", "",
    ]  # fmt: skip
    for slot, (port, inside) in slots.items():
        lines += [
            f"[slots.{slot}]",
            f'app = "http://127.0.0.1:{port}"',
            f'operations = "http://127.0.0.1:{inside}"',
            "",
        ]
    return "\n".join(lines)
