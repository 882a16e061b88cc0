"""`make test-javascript`: the official `openai` package of JavaScript on the chat interface. Needs Node.js.

Its Python sister is asked the same in tests/api/test_chat.py.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gates.node import install
from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.provider import Provider, Script, calls, fault, provider, says, status
from gates.rig.service import Service, running, wait_for

HERE = Path(__file__).parent
PACKAGE = "openai@7"


def main() -> None:
    isolate()
    with tempfile.TemporaryDirectory(prefix="javascript-") as folder, provider() as model:
        home = Path(folder)
        install(home, PACKAGE)
        shutil.copy(HERE / "client.mjs", home)
        environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": model.url}
        with sqlite_databases(home / "databases") as new, running(new(), home, **environment) as service:
            Checks(home, service, model).run()


class Checks:
    def __init__(self, home: Path, service: Service, model: Provider) -> None:
        self.home, self.service, self.model = home, service, model
        self.who, self.admin = service.people(["member"], ["admin"])
        self.failed = 0
        found = calls("find_order", {"number": "A-17", "mail": "[email-1]"})
        self.scripts: Mapping[str, Script] = {
            "plain": model.script(says("Good day, [email-1].")),
            "stream": model.script(says("one two three")),
            "helper": model.script(says("one two")),
            "tools": model.script(found, says("It was sent on Monday.")),
            "left": model.script(fault("endless")),
            "broken": model.script(status(500)),
            "spent": model.script(says("No.")),
        }

    def run(self) -> None:
        self.check("a plain answer, personal data back in it", self.played("plain"),
                   {"text": "Good day, ada@example.com.", "tokens": 17})  # fmt: skip
        self.check("a stream and its usage", self.played("stream"), {"text": "one two three", "tokens": 17})
        self.check("the package's own helper for streams", self.played("helper"), {"text": "one two"})
        arguments = json.dumps({"number": "A-17", "mail": "ada@example.com"})
        told = self.played("tools")
        told["called"]["arguments"] = json.dumps(json.loads(told["called"]["arguments"]))
        found = {"name": "find_order", "arguments": arguments}
        self.check("a tool call as data, and its result", told, {"called": found, "text": "It was sent on Monday."})
        self.check("a reader who stops", self.played("left"), {"left": True})
        wait_for(lambda: all(each.closed_early for each in self.scripts["left"].seen))
        self.check("… is not read for at the provider", len(self.scripts["left"].seen), 1)
        self.check("the models there are", "gpt-4o" in self.played("names")["names"], True)
        self.refused("unknown", "NotFoundError", 404, "model_not_found", "choose from auto, small, ")
        self.refused("stranger", "AuthenticationError", 401, "auth.unauthenticated", "")
        self.refused("broken", "InternalServerError", 503, "provider.unavailable", "")
        said = " ".join(exchange.raw.decode() for exchange in self.model.ledger)
        self.check("no personal data at the provider", "ada@example.com" in said, False)
        reached = sum(len(script.seen) for script in self.scripts.values())
        usage = self.service.call(self.who, "GET", "/v1/usage").json()
        self.check("every request metered", usage["model_calls"], reached)
        body = {"scope": "tenant", "limit_usd": "0.000001"}
        self.check(
            "a budget of nearly nothing",
            self.service.call(self.admin, "PUT", "/v1/budgets", json=body).status_code,
            200,
        )
        self.refused("spent", "APIError", 402, "budget.exceeded", "it resets at")
        self.check("… reaches no provider, and is not asked again", len(self.scripts["spent"].seen), 0)
        print(f"{'HOLDS' if not self.failed else 'BROKEN'}: {self.failed} failed")
        raise SystemExit(1 if self.failed else 0)

    def played(self, step: str) -> Any:
        """What the product sees of one step."""
        tasks = {name: script.task("From ada@example.com.") for name, script in self.scripts.items()}
        told = {"address": f"{self.service.base_url}/v1", "key": self.who.key, "tasks": tasks}
        command = ["node", "client.mjs", json.dumps(told), step]
        ran = subprocess.run(command, cwd=self.home, capture_output=True, text=True, timeout=600, check=False)
        if ran.returncode != 0:
            raise SystemExit(f"client.mjs ended with {ran.returncode}: {ran.stderr[-2_000:]}")
        return json.loads(ran.stdout)

    def refused(self, step: str, error: str, number: int, code: str, says_so: str) -> None:
        told = self.played(step)
        said = {name: told.get(name) for name in ("error", "status", "code")}
        self.check(f"{code} as the package knows it", said, {"error": error, "status": number, "code": code})
        self.check("… with words", bool(told.get("message")) and says_so in told["message"], True)

    def check(self, what: str, seen: object, expected: object) -> None:
        good = seen == expected
        self.failed += not good
        print(f"  {'✔' if good else '✘'} {what}{'' if good else f': {seen} instead of {expected}'}", flush=True)


if __name__ == "__main__":
    main()
