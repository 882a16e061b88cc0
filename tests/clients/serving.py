"""A generated service that runs as its README starts it, in front of a provider at an address of its own."""

import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.generated import ENVIRONMENT
from tests.odd.bench import Service


@contextmanager
def serving(service: Service, upstream: str, key: str, **settings: str) -> Iterator[str]:
    """Its address, once it is ready; OpenAI is its provider, at `upstream`. Raises RuntimeError with its last words."""
    port, operations = _free_port(), _free_port()
    environment = {
        **ENVIRONMENT, "MODEL_PROVIDER": "openai", "MODEL_API_KEY": key, "MODEL_BASE_URL": upstream,
        "PORT": str(port), "OPERATIONS_PORT": str(operations), **settings,
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


def issue_key(service: Service, tenant: str, member: str) -> str:
    """Of a member of its own, in a tenant that is made where there is none."""
    if tenant not in service.app("tenants", "list"):
        service.app("tenants", "add", tenant)
    service.app("members", "add", member, "--tenant", tenant, "--role", "member")
    shown = service.app("keys", "issue", "--tenant", tenant, "--member", member)
    return next(word for word in shown.split() if word.startswith("svc_"))


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
