"""The story of one guarded run, told by a running service over HTTP.

Starts the service on a scratch database with the offline model, plays the story, prints what the
service answered, and leaves it running until Ctrl-C (with ONCE=1 it ends by itself).
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from app.bootstrap import open_runtime
from app.budgets.caps import Payer
from app.entrypoints.listening import listen, local_url
from app.entrypoints.schema import migrate
from app.entrypoints.terminal import accept_any_terminal
from app.settings import Settings, load_settings, sqlite_url
from app.telemetry.logs import configure_logs

ROOT = Path(__file__).resolve().parent.parent
PEOPLE = {
    "mia": ("northwind", ["member", "approver"]),
    "ann": ("northwind", ["approver"]),
    "vic": ("northwind", ["viewer"]),
    "ada": ("northwind", ["admin"]),
    "fay": ("fabrikam", ["member"]),
    "cleo": ("contoso", ["member", "admin"]),
}
DOCUMENTS = [
    {
        "name": "customer-mail.txt",
        "text": "Checkout fails with error 502 since 9:00. This is urgent, many customers are affected.",
    },
    {"name": "gateway.log", "text": "09:02:11 upstream timed out while reading response header from payment-api"},
]
PATIENCE_S = 200  # with a machine under load: it ends what hangs
TASK = "Check whether we already know about this outage, and create a ticket for it."
console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


class StoryBroken(Exception):
    """The service did not do what the story says."""


class Story:
    def __init__(self, client: httpx2.Client, keys: dict[str, str]) -> None:
        self.client, self.keys, self.number = client, keys, 0

    def call(self, who: str, method: str, path: str, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.keys[who]}", **options.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **options)

    def start_run(self, who: str, key: str) -> httpx2.Response:
        body = {"feature": "assistant", "task": TASK, "documents": DOCUMENTS}
        return self.call(who, "POST", "/v1/runs", json=body, headers={"Idempotency-Key": key})

    def tell(self, text: str, answer: str, *, holds: bool) -> None:
        """Print one step with what the service answered; stop the story when that is not what must happen."""
        self.number += 1
        mark = "[green]✔[/]" if holds else "[red]✘[/]"
        console.print(f" {mark} [bold]{self.number:>2}.[/] {text}")
        console.print(f"       [dim]{answer}[/]")
        if not holds:
            raise StoryBroken(text)


def play(story: Story) -> tuple[str, str]:
    """Play the whole story; returns the run's id and its cost."""
    health = story.client.get("/livez")
    story.tell("the service is up, on SQLite with the offline model", f"GET /livez {health.status_code}", holds=True)
    run_id, approval = _ask(story)
    _approve(story, run_id, approval)
    cost = _answer(story, run_id)
    _refusals(story)
    return run_id, cost


def _ask(story: Story) -> tuple[str, dict[str, Any]]:
    started = story.start_run("mia", "demo-1")
    run_id = started.json().get("id", "")
    text = "mia (member) starts a run on two documents"
    story.tell(text, f"{started.status_code} run {run_id}", holds=started.status_code == 202)
    pending = _wait(lambda: story.call("ann", "GET", "/v1/approvals?state=pending").json()["items"])
    trail = [e for e in _audit(story, run_id) if e["action"].startswith("tool.")]
    searched = " then ".join(f"{e['data']['tool']} {e['action'].removeprefix('tool.')}" for e in trail)
    text = "the agent searches the tickets: a read, allowed by policy"
    story.tell(text, f"audit: {searched}", holds=searched == "search_tickets started then search_tickets done")
    approval: dict[str, Any] = pending[0]
    parked = _wait(lambda: story.call("mia", "GET", f"/v1/runs/{run_id}").json()["state"] == "waiting")
    tickets = len(_tickets(story))
    text = "the agent asks to create a ticket: a write, so the run is parked"
    answer = f"run waiting; “{approval['arguments']['title']}”; tickets now: {tickets}"
    story.tell(text, answer, holds=parked and approval["tool"] == "create_ticket" and tickets == 0)
    return run_id, approval


def _approve(story: Story, run_id: str, approval: dict[str, Any]) -> None:
    path = f"/v1/approvals/{approval['id']}/decision"
    decision = {"decision": "approve", "digest": approval["digest"], "reason": "known outage"}
    own = story.call("mia", "POST", path, json=decision)
    text = "mia, who asked, may not approve it herself"
    story.tell(text, _problem(own), holds=own.status_code == 403)
    approved = story.call("ann", "POST", path, json=decision)
    text = "ann (approver) approves exactly this action, by its digest"
    story.tell(text, f"{approved.status_code} digest {approval['digest'][:16]}…", holds=approved.status_code == 200)
    again = story.call("ann", "POST", path, json=decision)
    story.tell("a second click changes nothing", _problem(again), holds=again.status_code == 409)
    _wait(lambda: story.call("mia", "GET", f"/v1/runs/{run_id}").json()["ended_at"])
    replay = story.start_run("mia", "demo-1")
    tickets = _tickets(story)
    text = "the ticket exists exactly once, also after the same request was sent again"
    same = replay.headers.get("Idempotency-Replayed") == "true" and replay.json()["id"] == run_id
    story.tell(text, f"tickets now: {len(tickets)}; the repeat got run {run_id} back", holds=same and len(tickets) == 1)


def _answer(story: Story, run_id: str) -> str:
    run = story.call("mia", "GET", f"/v1/runs/{run_id}").json()
    console.print(Panel(run["output"]["answer"], title="the run's typed answer", border_style="dim"))
    usage = run["usage"]
    cost = (
        f"{usage['model_calls']} model calls, {usage['input_tokens']}+{usage['output_tokens']} tokens, "
        f"${usage['cost_usd']}"
    )
    left = next(b for b in story.call("mia", "GET", "/v1/budgets").json()["items"] if b["scope"] == "tenant")
    spent = left["spent_usd"] == usage["cost_usd"] and left["held_usd"] == "0.000000"
    text = "what it cost, to the micro-dollar, and what is left of the tenant's cap"
    story.tell(text, f"{cost}; left ${left['left_usd']} of ${left['limit_usd']}", holds=spent)
    table = Table("#", "who", "what", "detail", title="audit trail of the run", title_style="bold", box=None)
    names = {member: name for name, member in _members(story).items()}
    for event in _audit(story, run_id):
        detail = event["data"].get("tool") or event["data"].get("feature") or ""
        table.add_row(str(event["sequence"]), names.get(event["actor"], "service"), event["action"], detail)
    console.print(table)
    chain = story.call("ada", "GET", "/v1/audit/chain").json()
    text = "the audit trail's hash chain verifies"
    story.tell(text, f"{chain['events']} events, intact: {chain['intact']}", holds=chain["intact"])
    return str(usage["cost_usd"])


def _refusals(story: Story) -> None:
    viewer = story.start_run("vic", "demo-2")
    story.tell("vic (viewer) may not start a run", _problem(viewer), holds=viewer.status_code == 403)
    broke = story.start_run("fay", "demo-3")
    calls = story.call("fay", "GET", "/v1/usage").json()["model_calls"]
    text = "fay's tenant has no budget: refused before any model call"
    story.tell(text, f"{_problem(broke)} Model calls: {calls}", holds=broke.status_code == 402 and calls == 0)
    seen = {
        "runs": story.call("cleo", "GET", "/v1/runs").json()["items"],
        "tickets": story.call("cleo", "GET", "/v1/assistant/tickets").json()["items"],
        "approvals": story.call("cleo", "GET", "/v1/approvals").json()["items"],
    }
    counts = ", ".join(f"{name}: {len(items)}" for name, items in seen.items())
    text = "cleo, of another tenant, sees nothing of all this"
    story.tell(text, counts, holds=not any(seen.values()))


def _audit(story: Story, run_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = story.call("ada", "GET", f"/v1/audit?subject=run:{run_id}").json()["items"]
    return items


def _tickets(story: Story) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = story.call("mia", "GET", "/v1/assistant/tickets").json()["items"]
    return items


def _members(story: Story) -> dict[str, str]:
    added = story.call("ada", "GET", "/v1/audit").json()["items"]
    return {e["data"]["name"]: e["subject"].partition(":")[2] for e in added if e["action"] == "member.added"}


def _problem(response: httpx2.Response) -> str:
    body = response.json()
    return f"{response.status_code} {body.get('code', '')}: {body.get('detail', body)}"


def _wait(ready: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.1)
    raise StoryBroken("the service did not get there in time")


async def _people(settings: Settings) -> dict[str, str]:
    """Create the cast in the database, as an operator would with `app tenants add` and so on."""
    keys = {}
    async with open_runtime(settings) as runtime:
        tenants = {
            t: await runtime.members.create_tenant(t, "demo") for t in dict.fromkeys(t for t, _ in PEOPLE.values())
        }
        for name, (tenant, roles) in PEOPLE.items():
            member = await runtime.members.add(tenants[tenant], name, roles, "demo")
            keys[name] = (await runtime.keys.issue(tenants[tenant], member, "demo")).token
        empty = tenants["fabrikam"]
        await runtime.ledger.set_cap(Payer(empty, ""), "tenant", 0, actor="demo")
    return keys


@contextmanager
def _service(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "ENVIRONMENT": "development",
        "DATABASE_URL": settings.database_url,
        "HOST": settings.host,
        "PORT": str(settings.port),
        "OPERATIONS_PORT": str(settings.operations_port),
        "MODEL_PROVIDER": "offline",
    }
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], cwd=ROOT, env=environment, stderr=log, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(*hosts: str) -> list[int]:
    sockets = [listen(host, 0) for host in hosts]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _tell_how_to_go_on(settings: Settings, keys: dict[str, str]) -> None:
    base = local_url(settings.host, settings.port)
    table = Table(
        "who", "tenant", "roles", "API key", box=None, title="keys (valid while this runs)", title_style="bold"
    )
    for name, (tenant, roles) in PEOPLE.items():
        table.add_row(name, tenant, ", ".join(roles), keys[name])
    Console(highlight=False, width=140).print(table)
    console.print(f"\nConsole: [bold]{base}/console[/]   sign in with ann's key to decide, with mia's to watch")
    console.print("\nTry (the second starts a run and waits until it asks; the third shows its question):")
    task = '{"feature": "assistant", "task": "Create a ticket: the printer on floor 2 is jammed."}'
    body = f"-H 'Content-Type: application/json' -d '{task}'"
    start = f"-H 'Idempotency-Key: my-1' -H 'Prefer: wait=10' {body}"
    lines = (
        f"curl -sw '\\n' {base}/v1/runs -H 'Authorization: Bearer {keys['mia']}'",
        f"curl -sw '\\n' {base}/v1/runs -H 'Authorization: Bearer {keys['mia']}' {start}",
        f"curl -sw '\\n' '{base}/v1/approvals?state=pending' -H 'Authorization: Bearer {keys['ann']}'",
    )
    for line in lines:
        print(f"  {line}")


def main() -> int:
    accept_any_terminal()
    once = os.environ.get("ONCE", "") not in {"", "0"}
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        folder = Path(name)
        settings = load_settings(
            environment="development",
            database_url=sqlite_url(folder / "demo.db"),
            model_provider="offline",
            port=0,
            operations_port=0,
        )
        port, operations_port = _free_ports(settings.host, settings.operations_host)
        ports = {"port": int(os.environ.get("PORT", port)), "operations_port": operations_port}
        settings = settings.model_copy(update=ports)
        configure_logs("error")
        with console.status("preparing a scratch database and starting the service …"):
            migrate(settings)
            keys = asyncio.run(_people(settings))
        with (
            _service(settings, folder) as process,
            httpx2.Client(
                base_url=local_url(settings.host, settings.port), trust_env=False, timeout=PATIENCE_S
            ) as client,
        ):
            try:
                _wait_until_ready(client, process)
                console.rule("[bold]one guarded run, told by the running service")
                _run_id, cost = play(Story(client, keys))
            except (StoryBroken, httpx2.HTTPError) as error:
                console.print(f"\n[red]The story broke: {error}[/]\nThe service's last words:")
                print("\n".join((folder / "service.log").read_text().splitlines()[-15:]))
                return 1
            console.rule(f"[bold green]every step held; the run cost ${cost}")
            if once:
                return 0
            _tell_how_to_go_on(settings, keys)
            console.print("\nThe service keeps running. Ctrl-C stops it and removes its scratch database.")
            _wait_for_interrupt(process)
    console.print("Stopped.")
    return 0


def _wait_until_ready(client: httpx2.Client, process: subprocess.Popen[bytes]) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            raise StoryBroken(f"the service ended with status {process.returncode}")
        try:
            return client.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    _wait(ready)


def _wait_for_interrupt(process: subprocess.Popen[bytes]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process.wait()
    except KeyboardInterrupt:
        console.print()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
