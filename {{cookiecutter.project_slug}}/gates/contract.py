"""`make contract`: a running service against its own OpenAPI document, by a tool that knows nothing else of it.

Schemathesis sends what the contract allows and what it does not, alone and in sequences, as two tenants, and compares
every answer with the contract. A second run whose credential is wrong must be red, or the first shows nothing.
Its verdict is kept for the scorecard.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from app.budgets.models import BudgetCap, BudgetWindow
from app.db.base import utc_now
from app.entrypoints.proxies import exempt_loopback
from app.features import FEATURES
from app.identity.models import ApiKey, Elevation, Member
from app.identity.roles import Roles
from app.runs.models import Run
from app.runs.state import ENDED
from app.settings import ROOT
from app.switches.models import Switch
from app.tools.models import Approval
from gates import suites
from gates.matrix import objects
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.issuer import Issuer, issuer
from gates.rig.service import Service, running
from gates.rig.world import NO_LIMITS

SECONDS = 300
EVERY_SECONDS = 0.25
TOKEN_SECONDS = 86_400  # a sign-in outlasts the run
SEEDED = "CONTRACT_SEEDED"  # where the hooks find the callers, by key
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
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 413, 415, 422, 429, 503]
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
include-path-regex = "^/v1/key-claims/[{{]"
parameters.claim_id = "{claim_id}"

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
    with tempfile.TemporaryDirectory(prefix="contract-") as folder, issuer() as trusted:
        home = Path(folder)
        config = shutil.copytree(ROOT / "config", home / "config")
        (config / "limits.toml").write_text(NO_LIMITS)
        settings = {"CONFIG_DIR": str(config), **trusted.settings}
        with sqlite_databases(home / "databases") as new, running(new(), home, **settings) as service:
            store = objects.Store.at(service.database_url)
            mine, theirs = _caller(service, store, trusted), _caller(service, store, trusted)
            seeded = objects.seeded(store, mine.tenant_id, *(feature.name for feature in FEATURES[:1]))
            with _never_used_up(store, seeded, [mine.member_id, theirs.member_id]):
                held = _run(service, home, [mine, theirs], seeded, seconds, seed)
            strangers = [Caller(key) for key in ("svc_test_wrong", "svc_test_wronger")]
            wrong = _run(service, home, strangers, seeded, 30, seed)
        bugs = [line for line in service.log.read_text().splitlines() if '"error.unexpected"' in line]
    print("\n".join(bugs[-5:]))
    suites.keep(suites.SCHEMATHESIS, ok=held == 0 and bool(wrong), complete=seconds >= SECONDS, seed=seed)
    print(f"with valid keys: {'HOLDS' if held == 0 else 'BROKEN'} · with wrong ones: {'red' if wrong else 'GREEN'}")
    if not wrong:
        print("A run whose credential is wrong was green: this tool notices nothing.", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(1 if held else 0)


@dataclass(frozen=True)
class Caller:
    """A tenant's two persons: one with every role there is, by a key, and one who signs in at the provider.

    The second is no operator of the platform, for these take no key for themselves, and asks to be lent a role."""

    key: str
    token: str = ""  # of the second, as all that follows
    member_id: str = ""
    role: str = ""  # that they have not
    tenant_id: str = ""
    digest: str = objects.DIGEST  # of the question that is put to the first


def _caller(service: Service, store: objects.Store, trusted: Issuer) -> Caller:
    """In a tenant of their own."""
    roles = Roles.load(ROOT / "config" / "roles.toml")
    *held, lent = roles.lendable
    person, holder = service.people(roles.names, held)
    with store.engine.begin() as connection:
        linked = sa.update(Member).where(Member.id == holder.member_id)
        connection.execute(linked.values(issuer=trusted.url, subject=holder.member_id))
    token = trusted.token(holder.member_id, exp=int(time.time()) + TOKEN_SECONDS)
    return Caller(person.key, token, holder.member_id, lent, person.tenant_id)


@contextmanager
def _never_used_up(store: objects.Store, seeded: dict[str, str], holders: list[str]) -> Iterator[None]:
    """What one request uses up, others find again: money that is not frozen, open questions, switches that are off, and
    room for a key, or the loan of a role, of the holders' own.

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
                keys = sa.update(ApiKey).where(ApiKey.member_id.in_(holders), ApiKey.revoked_at.is_(None))
                connection.execute(keys.values(revoked_at=utc_now()))
                connection.execute(sa.delete(Elevation).where(Elevation.member_id.in_(holders)))
                loan = sa.update(Elevation).where(Elevation.id == seeded["elevation_id"], Elevation.state != "asked")
                connection.execute(loan.values(state="asked", decided_by=None, decided_at=None, ended_at=None))
                question = sa.update(Approval).where(Approval.id == seeded["approval_id"], Approval.state != "pending")
                connection.execute(question.values(state="pending", decided_by=None, decided_at=None))

    keeper = threading.Thread(target=again_and_again)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _run(
    service: Service, home: Path, callers: list[Caller], seeded: dict[str, str], seconds: int, seed: int
) -> int:  # fmt: skip
    """One run of the tool; its exit code."""
    auth = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {caller.key}"}]}
        for name, caller in zip(("mine", "theirs"), callers, strict=True)
    ]
    (home / "schemathesis.toml").write_text(CONFIG.format(**seeded, hooks=HOOKS))
    file = home / "auth.json"
    file.write_text(json.dumps({"auth": auth}))
    command = [
        "schemathesis", "--no-color", "run", f"{service.base_url}/openapi.json", "--checks", "all",
        "--phases", "examples,coverage,fuzzing,stateful", "--max-time", str(seconds), "--seed", str(seed),
        "--auth-wfc", str(file), "--request-timeout", "40", "--continue-on-failure",
    ]  # fmt: skip
    known = {caller.key: asdict(caller) for caller in callers if caller.token}
    environment = {**os.environ, SEEDED: json.dumps(known)}
    return subprocess.run(command, cwd=home, env=environment, check=False).returncode


if __name__ == "__main__":
    typer.run(main)
