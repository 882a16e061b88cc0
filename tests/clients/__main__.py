"""`make test-clients`: client libraries as people have them, through a generated service, at a strict provider.

Each is installed in an environment of its own and plays its file of `play/`, in which nothing speaks of this service:
the address and the key come from the environment. ONLY=litellm,dspy picks clients; DIRECT=1 plays them at the provider
itself, to tell a fault of the service from one of the client or the rules. Red where a scenario does not hold.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.clients.playing import Result, isolated, play, show
from tests.clients.serving import issue_key, serving
from tests.generated import ENVIRONMENT
from tests.odd.bench import Bench, Service

HERE = Path(__file__).parent
PLAY = HERE / "play"
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
            return isolated(self.packages, str(PLAY / self.play))
        folder.mkdir()
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", *self.packages]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)
        for file in (self.play, "scenario.mjs"):
            shutil.copy(PLAY / file, folder)
        return ["node", str(folder / self.play)]


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
        with (
            _provider(service, folder / "provider.jsonl") as upstream,
            serving(service, upstream, PROVIDERS_KEY) as address,
        ):
            for client in known:
                if wanted and client.name not in wanted:
                    continue
                if client.is_javascript and shutil.which("npm") is None:
                    missing.append(f"{client.name}: no npm on this machine")
                    continue
                # Each has a member of its own, so that no client meets another's limits.
                key = PROVIDERS_KEY if direct else issue_key(service, "clients", client.name)
                results += _played(client, folder / client.name, upstream if direct else f"{address}/v1", key)
    show(results, missing, console)
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


def _played(client: Client, folder: Path, address: str, key: str) -> list[Result]:
    try:
        command = client.command(folder)
    except subprocess.CalledProcessError as error:
        return [Result(client.name, "install", ok=False, told=f"exit {error.returncode}")]
    environment = {**ENVIRONMENT, "OPENAI_BASE_URL": address, "OPENAI_API_BASE": address, "OPENAI_API_KEY": key}
    environment |= {"PYTHONPATH": str(PLAY), "PYTHONWARNINGS": "ignore", "NO_PROXY": "127.0.0.1"}
    return play(client.name, command, environment, console)


if __name__ == "__main__":
    sys.exit(main(",".join(sys.argv[1:])))
