"""`make contract`: a running service against its own OpenAPI document, by a tool that knows nothing else of it.

Schemathesis sends what the contract allows and what it does not, alone and in sequences, as two tenants, and compares
every answer with the contract. A second run whose credential is wrong must be red, or the first shows nothing.
Its verdict is kept for the scorecard.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from app.budgets.models import BudgetCap, BudgetWindow
from app.entrypoints.proxies import exempt_loopback
from app.features import FEATURES
from app.runs.models import Run
from app.runs.state import ENDED
from app.runtime import Runtime
from app.settings import ROOT
from app.switches.models import Switch
from app.tools.models import Approval
from gates import suites
from gates.matrix import objects
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.people import Person
from gates.rig.service import Service, running
from gates.rig.world import NO_LIMITS

SECONDS = 300
EVERY_SECONDS = 0.25
HOOKS = Path(__file__).with_name("contract_hooks.py")
ENOUGH = 20_000_000  # micro-dollars
CONFIG = """
hooks = "{hooks}"

[warnings]
fail-on = true  # a run that reached nothing is no success

# A file that nothing can read is refused, and a thrown switch stops runs: no schema can say either.
[[operations]]
include-name = "POST /v1/runs"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 402, 403, 404, 409, 422, 429, 503]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]

# A name of a model is open: dated ones are taken, and one that nobody has is 404.
[[operations]]
include-name = "POST /v1/chat/completions"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 402, 403, 404, 422, 429, 503]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]

[[operations]]
include-name = "POST /v1/responses"
# Too many items are often too many bytes as well.
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 413, 415, 422, 429, 503]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 402, 403, 404, 422, 429, 503]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]

[[operations]]
include-name = "POST /v1/embeddings"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 402, 403, 422, 429, 503]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]

[[operations]]
include-path-regex = "^/v1/models/[{{]"
parameters.model_id = "standard"

[[operations]]
include-path-regex = "^/v1/tenants/[{{]"
parameters.tenant_id = "{tenant_id}"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 422, 429]  # tiers are this service's own

[[operations]]
include-path-regex = "^/v1/approvals/[{{]"
parameters.approval_id = "{approval_id}"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 410, 429]  # its run may have ended

[[operations]]
include-path-regex = "^/v1/runs/[{{]"
parameters.run_id = "{run_id}"

[[operations]]
include-path-regex = "^/v1/keys/[{{]"
parameters.key_id = "{key_id}"

[[operations]]
include-path-regex = "^/v1/members/[{{]"
parameters.member_id = "{member_id}"

[[operations]]
include-path-regex = "^/v1/tool-calls/[{{]"
parameters.call_id = "{call_id}"

[[operations]]
include-path-regex = "^/v1/elevations/[{{]"
parameters.elevation_id = "{elevation_id}"
"""


def main(
    seconds: Annotated[int, typer.Option(min=30, help="How long the fuzzing may take at most.")] = SECONDS,
    seed: Annotated[int, typer.Option(help="The same seed draws the same requests.")] = 1,
) -> None:
    """Check the service against its contract; exit 1 on any failure, 2 where that could not be judged."""
    if shutil.which("schemathesis") is None:
        print("schemathesis is not installed here; run: make contract", file=sys.stderr)
        raise SystemExit(2)
    isolate()
    exempt_loopback()
    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        home = Path(folder)
        config = shutil.copytree(ROOT / "config", home / "config")
        (config / "limits.toml").write_text(NO_LIMITS)
        settings = {
            "CONFIG_DIR": str(config),
            "OIDC_ISSUER": "https://issuer.rig.test",
            "OIDC_AUDIENCE": "contract",
            "OIDC_JWKS_URL": "https://issuer.rig.test/jwks",
        }
        with sqlite_databases(home / "databases") as new, running(new(), home, **settings) as service:
            mine, theirs = _everything(service), _everything(service)
            store = objects.Store.at(service.database_url)
            seeded = objects.seeded(store, mine.tenant_id, *(feature.name for feature in FEATURES[:1]))
            with _never_used_up(store, seeded):
                held = _run(service, home, [mine.key, theirs.key], seeded, seconds, seed)
            wrong = _run(service, home, ["svc_test_wrong", "svc_test_wronger"], seeded, 30, seed)
        bugs = [line for line in service.log.read_text().splitlines() if '"error.unexpected"' in line]
    print("\n".join(bugs[-5:]))
    suites.keep(suites.SCHEMATHESIS, ok=held == 0 and bool(wrong), complete=seconds >= SECONDS, seed=seed)
    print(f"with valid keys: {'HOLDS' if held == 0 else 'BROKEN'} · with wrong ones: {'red' if wrong else 'GREEN'}")
    if not wrong:
        print("A run whose credential is wrong was green: this tool notices nothing.", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(1 if held else 0)


def _everything(service: Service) -> Person:
    """Somebody with every role there is, in a tenant of their own."""

    async def names(runtime: Runtime) -> list[str]:
        return runtime.directory.roles.names

    [person] = service.people(service.inside(names))
    return person


@contextmanager
def _never_used_up(store: objects.Store, seeded: dict[str, str]) -> Iterator[None]:
    """What one request uses up, others find again: money that is not frozen, the one question, switches that are off.

    Otherwise the order of requests decides whether a route is looked at, or answers 402, 410 or 503 to everything."""
    done = threading.Event()

    def again_and_again() -> None:
        while not done.wait(EVERY_SECONDS):
            with store.engine.begin() as connection:
                connection.execute(sa.delete(Switch))
                connection.execute(sa.update(BudgetCap).values(tenant_limit_micro=None, tenant_frozen=False))
                money = sa.update(BudgetWindow).where(BudgetWindow.limit_micro < ENOUGH)
                connection.execute(money.values(limit_micro=ENOUGH))
                run = sa.update(Run).where(Run.id == seeded["run_id"], Run.state.in_(ENDED))
                connection.execute(run.values(state="waiting", ended_at=None, error_code=None, error_detail=None))
                question = sa.update(Approval).where(Approval.id == seeded["approval_id"], Approval.state != "pending")
                connection.execute(question.values(state="pending", decided_by=None, decided_at=None))

    keeper = threading.Thread(target=again_and_again)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _run(service: Service, home: Path, keys: list[str], seeded: dict[str, str], seconds: int, seed: int) -> int:
    """One run of the tool; its exit code."""
    auth = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key}"}]}
        for name, key in zip(("mine", "theirs"), keys, strict=True)
    ]
    (home / "schemathesis.toml").write_text(CONFIG.format(**seeded, hooks=HOOKS))
    file = home / "auth.json"
    file.write_text(json.dumps({"auth": auth}))
    command = [
        "schemathesis", "--no-color", "run", f"{service.base_url}/openapi.json", "--checks", "all",
        "--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(seconds), "--seed", str(seed),
        "--auth-wfc", str(file), "--request-timeout", "40", "--continue-on-failure",
    ]  # fmt: skip
    return subprocess.run(command, cwd=home, check=False).returncode


if __name__ == "__main__":
    typer.run(main)
