"""The service behind a real PgBouncer with pool_mode=transaction, on the PostgreSQL of the service's own tests.

First it must refuse to start with the reason; then, with DIRECT_DATABASE_URL, every request must succeed.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gates.rig.databases import postgres_databases
from gates.rig.environment import isolate
from gates.rig.relay import relay
from gates.rig.service import Service, free_ports, running, wait_for

CLIENTS, REQUESTS = 12, 120
REFUSED = ("shares sessions", "DIRECT_DATABASE_URL")


@contextmanager
def pooled(server_port: int, name: str, role: str, folder: Path) -> Iterator[int]:
    [port] = free_ports(1)
    (folder / "users").write_text(f'"{role}" "service"\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = plain\nauth_file = {folder / 'users'}\npool_mode = transaction\n"
        f"default_pool_size = 4\nmax_client_conn = 200\nunix_socket_dir =\nlogfile = {folder / 'log'}\n"
    )
    folder.chmod(0o777)
    as_somebody = ["-u", "nobody"] if os.geteuid() == 0 else []
    libraries = os.environ["PGBOUNCER_LIBRARIES"]
    environment = {**os.environ, **({"LD_LIBRARY_PATH": libraries} if libraries else {})}
    process = subprocess.Popen(
        [os.environ["PGBOUNCER"], "-q", *as_somebody, str(folder / "pgbouncer.ini")], env=environment
    )
    try:
        wait_for(lambda: process.poll() is not None or _listens(port))
        if process.poll() is not None:
            raise SystemExit(f"PgBouncer did not start: {(folder / 'log').read_text()[-500:]}")
        yield port
    finally:
        process.terminate()
        process.wait(60)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}", query="").geturl()


def socket_of(url: str) -> str:
    [folder] = parse_qs(urlsplit(url).query)["host"]
    return str(next(path for path in Path(folder).glob(".s.PGSQL.*") if path.suffix != ".lock"))


def refused(url: str) -> None:
    for command, more in (("serve", {}), ("doctor", {}), ("worker", {}), ("migrate", {"MIGRATION_DATABASE_URL": url})):
        environment = {**os.environ, "ENVIRONMENT": "test", "DATABASE_URL": url, "PORT": "0", "OPERATIONS_PORT": "0"}
        environment |= more
        done = subprocess.run(
            [sys.executable, "-m", "app", command], env=environment, capture_output=True, text=True, check=False
        )
        said = " ".join(done.stderr.split())
        if done.returncode != 2 or REFUSED[0] not in said or "Traceback" in said:
            raise SystemExit(f"app {command} behind a pooler is not refused (exit {done.returncode}): {said[-800:]}")


def used(service: Service) -> str:
    asker, approver = service.people(["member"], ["approver"])

    def ask(number: int) -> int:
        path = ("/v1/runs", "/v1/budgets", "/v1/usage", "/readyz")[number % 4]
        return int(service.call(asker, "GET", path).status_code)

    with ThreadPoolExecutor(CLIENTS) as clients:
        statuses = list(clients.map(ask, range(REQUESTS)))
    if wrong := sorted({status for status in statuses if status != 200}):
        raise SystemExit(f"{sum(s != 200 for s in statuses)} of {REQUESTS} requests failed with {wrong}")
    began = time.monotonic()
    runs = [service.start_run(asker, "Create a ticket: the printer is jammed.").json()["id"] for _ in range(8)]
    for run in runs:
        service.run_until(asker, run, "waiting", "succeeded")
    for run in runs:
        for question in service.pending(approver, run):
            answer = service.decide(approver, question)
            if answer.status_code != 200:
                raise SystemExit(f"a decision failed: {answer.text}")
        service.run_until(asker, run, "succeeded")
    took = time.monotonic() - began
    return f"refused without DIRECT_DATABASE_URL; with it {REQUESTS} requests and {len(runs)} runs in {took:.0f} s"


isolate()
with tempfile.TemporaryDirectory(prefix="pooled-") as home, postgres_databases() as new:
    url = new()
    parts = urlsplit(url)
    with relay(socket_of(url)) as wire, pooled(wire.port, parts.path[1:], str(parts.username), Path(home)) as port:
        pooler = through(url, port)
        refused(pooler)
        logs = Path(home) / "service"
        logs.mkdir()
        with running(pooler, logs, DIRECT_DATABASE_URL=url) as started:
            words = used(started)
            if "prepared statement" in started.log.read_text():
                raise SystemExit("a prepared statement was used behind the pooler")
print(words)
