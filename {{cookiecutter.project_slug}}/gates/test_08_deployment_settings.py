"""Gate 8, deployment: what cannot be served safely is not served, and the message names the key."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.settings import DEVELOPMENT_SECRET, ROOT
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase, belongs_to, owner_of
from gates.rig.service import running

AT_ONCE = 2
ENDS_WITHIN_S = 120  # a service that starts in spite of it all is ended then
CANARY = "canary-" + "0123456789abcdef" * 2  # a value that no message may repeat
OIDC = {
    "OIDC_ISSUER": "https://id.example", "OIDC_AUDIENCE": "api", "OIDC_JWKS_URL": "https://id.example/keys",
}  # fmt: skip


@dataclass(frozen=True)
class Bad:
    """One change to an environment that is complete, the key that must be named, and what it is about."""

    key: str
    change: Mapping[str, str]
    budgets: str = ""  # of config/budgets.toml, where that is what is changed
    also: tuple[str, ...] = field(default=())  # other keys that must be named at the same time


def _table(owner_url: str) -> tuple[Bad, ...]:
    return (
        # missing
        Bad("SESSION_SECRET", {"SESSION_SECRET": ""}),
        Bad("MODEL_API_KEY", {"MODEL_API_KEY": ""}),
        Bad("PUBLIC_URL", {"PUBLIC_URL": ""}),
        Bad("MODEL_PROVIDER", {"MODEL_PROVIDER": ""}),
        Bad("OIDC_AUDIENCE", {"OIDC_ISSUER": "https://id.example", "OIDC_JWKS_URL": "https://id.example/keys"}),
        # default
        Bad("SESSION_SECRET", {"SESSION_SECRET": DEVELOPMENT_SECRET}),
        Bad("DATABASE_URL", {"DATABASE_URL": ""}),
        Bad("MODEL_PROVIDER", {"MODEL_PROVIDER": "offline"}),
        # insecure
        Bad("SESSION_SECRET", {"SESSION_SECRET": CANARY[:31]}),
        Bad("SESSION_SECRET", {"SESSION_SECRET": "a" * 64}),
        Bad("MODEL_API_KEY", {"MODEL_API_KEY": f"{CANARY}\n"}),
        Bad("DATABASE_URL", {"DATABASE_URL": owner_url}),
        Bad("PUBLIC_URL", {"PUBLIC_URL": "http://service.example"}),
        Bad("LOG_LEVEL", {"LOG_LEVEL": "debug"}),
        Bad("CORS_ORIGINS", {"CORS_ORIGINS": "*"}),
        Bad("TRUSTED_PROXIES", {"TRUSTED_PROXIES": "0.0.0.0/0"}),
        Bad("OIDC_ALGORITHMS", {**OIDC, "OIDC_ALGORITHMS": "HS256"}),
        Bad("OIDC_JWKS_URL", {**OIDC, "OIDC_JWKS_URL": "http://id.example/keys"}),
        Bad("TOOL_SECRETS", {"TOOL_SECRETS": '{"crm": " "}'}),
        # without a limit
        Bad("RUN_MAX_MODEL_CALLS", {"RUN_MAX_MODEL_CALLS": "1000000"}),
        Bad("RUN_TIMEOUT_S", {"RUN_TIMEOUT_S": "0"}),
        Bad("caps.run_usd", {}, budgets="[caps]\nrun_usd = inf\n"),
        Bad("caps.tenant_monthly_usd", {}, budgets='[caps]\ntenant_monthly_usd = "1e12"\n'),
        Bad("caps.tenant_limit", {}, budgets='[caps]\ntenant_limit = "5"\n'),
        # contradictory, or of another world
        Bad("ENVIRONMENT", {"ENVIRONMENT": "prod"}),
        Bad("ENVIRONMENT", {"ENVIRONMENT": "staging"}),
        Bad("PORT", {"PORT": "70000"}),
        Bad("OPERATIONS_PORT", {"PORT": "9000", "OPERATIONS_PORT": "9000"}),
        Bad("MIGRATION_DATABASE_URL", {"MIGRATION_DATABASE_URL": "sqlite:///x.db"}),
        Bad("MODEL_TOTAL_TIMEOUT_MS", {"MODEL_TOTAL_TIMEOUT_MS": "200", "MODEL_TIMEOUT_MS": "9000"}),
        Bad("REQUEST_BYTES_IN_FLIGHT", {"REQUEST_BYTES_IN_FLIGHT": "2000", "REQUEST_MAX_BYTES": "9000"}),
        Bad("REQUIRE_DISTINCT_KEY_HOLDERS", {**OIDC, "REQUIRE_DISTINCT_KEY_HOLDERS": "false"}),
        Bad("RATE_LIMIT_STORAGE_URL", {"RATE_LIMIT_STORAGE_URL": f"mysql://x:{CANARY}@h"}),
        Bad(
            "LOG_LEVEL",
            {"LOG_LEVEL": "debug", "SESSION_SECRET": "", "PUBLIC_URL": ""},
            also=("SESSION_SECRET", "PUBLIC_URL"),
        ),
    )


@dataclass(frozen=True)
class Ended:
    code: int | None  # None: it went on serving
    said: str


def _run(command: str, environment: Mapping[str, str]) -> Ended:
    arguments = [sys.executable, "-m", "app", command]
    try:
        done = subprocess.run(
            arguments, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True,
            timeout=ENDS_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Ended(None, "it went on serving")
    return Ended(done.returncode, done.stdout + done.stderr)


@pytest.mark.timeout(900)
@control("DEP-05", cases=138)
def test_a_bad_environment_is_refused_by_name(proof: Proof, new_postgres: NewDatabase, tmp_path: Path) -> None:
    url = new_postgres()
    belongs_to(url, "production")
    good = {
        "ENVIRONMENT": "production", "DATABASE_URL": url, "SESSION_SECRET": CANARY + "-of-sessions",
        "MODEL_PROVIDER": "openai", "MODEL_API_KEY": CANARY, "PUBLIC_URL": "https://service.example", "PORT": "0",
        "OPERATIONS_PORT": "0",
    }  # fmt: skip
    with proof.positive("the same environment without the change is accepted"):
        accepted = _run("doctor", good)
        assert accepted.code == 0, accepted.said
        with running(url, tmp_path, **{name: value for name, value in good.items() if "PORT" not in name}) as service:
            assert service.call(None, "GET", "/readyz").status_code == 200
    table = _table(owner_of(url))

    def served(number: int) -> Ended:
        bad, environment = table[number], {**good, **table[number].change}
        if bad.budgets:
            folder = tmp_path / str(number)
            shutil.copytree(ROOT / "config", folder)
            (folder / "budgets.toml").write_text(bad.budgets)
            environment["CONFIG_DIR"] = str(folder)
        return _run("serve", environment)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for bad, ended in zip(table, pool.map(served, range(len(table))), strict=True):
            where = f"{bad.key} of {bad.change or bad.budgets!r}:"
            proof.holds("refuses", ended.code not in {None, 0}, f"{where} {ended.code} {ended.said[-200:]}")
            for key in bad.also:
                proof.holds("all-at-once", key in ended.said, f"{where} {key} is not named")
            proof.holds("names-the-key", bad.key in ended.said, f"{where} {ended.said[-200:]}")
            proof.holds("one-message", "Traceback" not in ended.said, f"{where} {ended.said[-300:]}")
            proof.holds("no-value", CANARY[:31] not in ended.said, f"{where} the message repeats a secret")
