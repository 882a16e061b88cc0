"""What is compared: a bare proxy, the service on either database, and LiteLLM's proxy, all before the same provider."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.service import free_ports, listening_ports, running, wait_for
from gates.rig.world import NO_LIMITS, models

LITELLM = "litellm[proxy]==1.108.7"
LITELLM_KEY = "sk-of-this-benchmark"
START_SECONDS = 120
CAPS = "[caps]\n" + "".join(
    f'{scope}_{often}_usd = "1000000"\n' for scope in ("global", "tenant", "member") for often in ("daily", "monthly")
)
# The temperature, so that no answer is given again.
BODY = json.dumps(
    {"model": "standard", "messages": [{"role": "user", "content": "What is the time in Lisbon?"}], "temperature": 0.7}
)


@dataclass(frozen=True)
class Target:
    name: str
    port: int
    request: bytes
    pid: int

    @property
    def resident_mb(self) -> float:
        return float(psutil.Process(self.pid).memory_info().rss / 1e6)


def to_core(pid: int, core: int) -> None:
    """Servers have the first core together and the load the second, where there are two."""
    if (os.cpu_count() or 1) > 1:
        for each in psutil.Process(pid).threads():
            psutil.Process(each.id).cpu_affinity([core])


@contextmanager
def upstream(delay_ms: int = 0) -> Iterator[str]:
    """The provider; its address."""
    [port] = free_ports(1)
    with _process([sys.executable, "-m", "benchmarks.guarded.upstream"], port, DELAY_MS=str(delay_ms)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def bare(provider: str) -> Iterator[Target]:
    """The proxy that somebody writes in an hour."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.guarded.bare"]
    with _process(command, port, UPSTREAM=f"{provider}/v1") as pid:
        yield Target("bare", port, _request(port), pid)


@contextmanager
def guarded(
    name: str, new: NewDatabase, home: Path, provider: str, module: str = "app", **more: str
) -> Iterator[Target]:
    """The service with every guard on, its logs, metrics, and traces of every twentieth request."""
    settings = {
        "CONFIG_DIR": str(config(home)), "MODEL_PROVIDER": "openai", "MODEL_BASE_URL": f"{provider}/v1",
        "MODEL_API_KEY": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": provider,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.05",
        "PYTHONPATH": str(ROOT), **more,
    }  # fmt: skip
    with running(new(), home, module, **settings) as service:
        [who] = service.people(["member"])
        if service.process is None:
            raise SystemExit(f"{name} ended by itself")
        to_core(service.process.pid, 0)
        yield Target(f"guarded, {name}", service.port, _request(service.port, who.key), service.process.pid)


@contextmanager
def litellm(home: Path, provider: str) -> Iterator[Target]:
    """LiteLLM's proxy from the package index, one worker, with a master key and no database."""
    [port] = free_ports(1)
    table = home / "litellm.yaml"
    entry = {"model": "openai/probe-model-1", "api_base": f"{provider}/v1", "api_key": "none"}
    settings = {"master_key": LITELLM_KEY}
    listed = [{"model_name": "standard", "litellm_params": entry}]
    table.write_text(json.dumps({"model_list": listed, "general_settings": settings}))
    command = [os.environ.get("UV", "uv"), "tool", "run", "--quiet", "--from", LITELLM, "litellm"]
    command += ["--config", str(table), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_LOG": "ERROR"}
    with _process(command, port, **quiet) as pid:
        yield Target("LiteLLM", port, _request(port, LITELLM_KEY), pid)


def config(home: Path) -> Path:
    """The product's configuration, with limits and caps that nobody meets and prices of the rig's."""
    made = shutil.copytree(ROOT / "config", home / f"config-{uuid4().hex[:6]}")
    (made / "limits.toml").write_text(NO_LIMITS)
    (made / "budgets.toml").write_text(CAPS)
    (made / "models.toml").write_text(models())
    return made


def _request(port: int, key: str = "") -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, f"Content-Length: {len(BODY)}", "", BODY]).encode()


@contextmanager
def _process(command: list[str], port: int, **environment: str) -> Iterator[int]:
    """A process, or a child of it, that listens; its id."""
    told = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT), **environment}
    process = subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listening = wait_for(lambda: _listening(process, port), START_SECONDS)
        if "benchmarks.guarded.upstream" not in command:
            to_core(listening, 0)
        yield listening
    finally:
        for each in psutil.Process(process.pid).children(recursive=True):
            each.terminate()
        process.terminate()
        process.wait(20)


def _listening(process: subprocess.Popen[bytes], port: int) -> int | None:
    if process.poll() is not None:
        raise SystemExit(f"{process.args!r} ended by itself, with {process.returncode}")
    for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # a helper that has done its part
            if port in listening_ports(each.pid):
                return int(each.pid)
    return None
