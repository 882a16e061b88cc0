"""`make test-clients`: client libraries as people have them, through a generated service, at a strict provider.

Each is installed in an environment of its own and plays its file of `play/`, in which nothing speaks of this service:
the address and the key come from the environment. ONLY=litellm,dspy picks clients; DIRECT=1 plays them at the provider
itself, to tell a fault of the service from one of the client or the rules. Red where a scenario does not hold.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.generated import ENVIRONMENT
from tests.odd.bench import Bench, Service

HERE = Path(__file__).parent
PLAY = HERE / "play"
SECONDS = 1_800  # of a client: it ends what hangs
PROVIDERS_KEY = "sk-provider"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


@dataclass(frozen=True)
class Client:
    name: str
    packages: list[str]
    play: str

    @property
    def is_javascript(self) -> bool:
        return self.play.endswith(".mjs")

    def command(self, folder: Path) -> list[str]:
        """Install it in an environment of its own; what plays it there. Raises CalledProcessError."""
        if not self.is_javascript:
            packages = [part for package in self.packages for part in ("--with", package)]
            return ["uv", "run", "--quiet", "--isolated", "--no-project", *packages, "python", str(PLAY / self.play)]
        folder.mkdir()
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", *self.packages]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)
        for file in (self.play, "scenario.mjs"):
            shutil.copy(PLAY / file, folder)
        return ["node", str(folder / self.play)]


@dataclass(frozen=True)
class Result:
    client: str
    scenario: str
    ok: bool
    told: str = ""


def main(only: str) -> int:
    known = [Client(name, **each) for name, each in tomllib.loads((HERE / "clients.toml").read_text()).items()]
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := set(wanted) - {client.name for client in known}:
        console.print(f"no client {', '.join(sorted(unknown))}; choose from {', '.join(each.name for each in known)}")
        return 2
    direct = os.environ.get("DIRECT", "") not in {"", "0"}
    results, missing = [], []
    with tempfile.TemporaryDirectory(prefix="clients-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        service = Bench(folder).plain
        with _provider(service, folder / "provider.jsonl") as upstream, _serving(service, upstream) as address:
            for client in known:
                if wanted and client.name not in wanted:
                    continue
                if client.is_javascript and shutil.which("npm") is None:
                    missing.append(f"{client.name}: no npm on this machine")
                    continue
                key = PROVIDERS_KEY if direct else _key(service, client.name)
                results += _played(client, folder / client.name, upstream if direct else f"{address}/v1", key)
    _show(results, missing)
    return int(not results or any(not each.ok for each in results))


@contextmanager
def _provider(service: Service, log: Path) -> Iterator[str]:
    command = [str(service.folder / ".venv" / "bin" / "python"), str(HERE / "provider.py"), str(log)]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(service.folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def _serving(service: Service, upstream: str) -> Iterator[str]:
    """The service, as its README starts it, with OpenAI as its provider at another address."""
    port, operations = _free_port(), _free_port()
    environment = {
        **ENVIRONMENT, "MODEL_PROVIDER": "openai", "MODEL_API_KEY": PROVIDERS_KEY, "MODEL_BASE_URL": upstream,
        "PORT": str(port), "OPERATIONS_PORT": str(operations),
    }  # fmt: skip
    log = service.folder / "serve.log"
    with log.open("w") as written:
        command = [str(service.folder / ".venv" / "bin" / "app"), "serve"]
        process = subprocess.Popen(command, cwd=service.folder, env=environment, stdout=written, stderr=written)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/readyz", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address):  # noqa: S310 - of loopback, made here
                return
        except urllib.error.URLError:
            if process.poll() is not None:
                raise RuntimeError(f"the service ended:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.2)
    raise RuntimeError(f"the service is not ready:\n{log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _key(service: Service, client: str) -> str:
    """Of a member of its own, so that no client meets another's limits."""
    if "clients" not in service.app("tenants", "list"):
        service.app("tenants", "add", "clients")
    service.app("members", "add", client, "--tenant", "clients", "--role", "member")
    shown = service.app("keys", "issue", "--tenant", "clients", "--member", client)
    return next(word for word in shown.split() if word.startswith("svc_"))


def _played(client: Client, folder: Path, address: str, key: str) -> list[Result]:
    try:
        command = client.command(folder)
    except subprocess.CalledProcessError as error:
        return [Result(client.name, "install", ok=False, told=f"exit {error.returncode}")]
    environment = {**ENVIRONMENT, "OPENAI_BASE_URL": address, "OPENAI_API_BASE": address, "OPENAI_API_KEY": key}
    environment |= {"PYTHONPATH": str(PLAY), "PYTHONWARNINGS": "ignore", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    results = [Result(client.name, line["scenario"], line["ok"], line.get("told", "")) for line in lines]
    if done.returncode or not results:
        results.append(Result(client.name, "to the end", ok=False, told=(done.stderr or done.stdout).strip()[-400:]))
    for each in results:
        console.print(f"  {'✔' if each.ok else '✘'} {each.client}: {each.scenario} {each.told}", markup=False)
    return results


def _show(results: list[Result], missing: list[str]) -> None:
    table = Table("client", "held", "did not", box=None)
    for name in dict.fromkeys(each.client for each in results):
        mine = [each for each in results if each.client == name]
        failed = ", ".join(each.scenario for each in mine if not each.ok)
        table.add_row(name, f"{sum(each.ok for each in mine)} of {len(mine)}", failed)
    console.print(table)
    for each in missing:
        console.print(f"NOT RUN {each}")
    console.print(f"{sum(each.ok for each in results)} of {len(results)} scenarios hold.")


if __name__ == "__main__":
    sys.exit(main(",".join(sys.argv[1:])))
