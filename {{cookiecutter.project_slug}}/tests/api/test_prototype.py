"""docs/adopting-a-prototype.md, day 1: its prototype as it stands there, at a provider and at this service."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.provider import Provider, calls, says
from gates.rig.service import Service, running

PAGE = (ROOT / "docs" / "adopting-a-prototype.md").read_text()


def _run(folder: Path, address: str, key: str) -> subprocess.CompletedProcess[str]:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = folder / "prototype.py"
    script.write_text(code)
    environment = {**os.environ, "OPENAI_BASE_URL": address, "OPENAI_API_KEY": key}
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


FOUND = calls("find_order", {"number": "A-17"})


@pytest.fixture
def service(new_sqlite: NewDatabase, tmp_path: Path, model_provider: Provider) -> Iterator[Service]:
    environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-x", "MODEL_BASE_URL": model_provider.url}
    with running(new_sqlite(), tmp_path, **environment) as started:
        yield started


def test_it_runs_here_as_it_ran_there_and_then_meets_its_budget(
    service: Service, model_provider: Provider, tmp_path: Path
) -> None:
    model_provider.answers(FOUND, says("It was sent on Monday; I wrote to ada@example.com."))
    before = _run(tmp_path, model_provider.url, "sk-of-the-prototype")
    assert before.returncode == 0, before.stderr
    assert "ada@example.com" in model_provider.ledger[0].raw.decode()

    who, admin = service.people(["member"], ["admin"])
    model_provider.answers(FOUND, says("It was sent on Monday; I wrote to [email-1]."))
    seen = len(model_provider.ledger)
    after = _run(tmp_path, f"{service.base_url}/v1", who.key)
    assert after.stdout == before.stdout, after.stderr
    assert all("ada@example.com" not in each.raw.decode() for each in model_provider.ledger[seen:])
    usage = service.call(who, "GET", "/v1/usage").json()
    assert [(row["feature"], row["model_calls"]) for row in usage["items"]] == [("chat", 2)]

    body = {"scope": "tenant", "limit_usd": "0.000001"}
    assert service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
    refused = _run(tmp_path, f"{service.base_url}/v1", who.key)
    assert refused.returncode != 0
    assert "The AI budget of this tenant is used up; it resets at" in refused.stderr
