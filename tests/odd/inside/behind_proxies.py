"""A service with a real provider on loopback answers a chat, whatever proxies the environment has."""

import tempfile
from pathlib import Path

from gates.rig.databases import sqlite_databases
from gates.rig.environment import isolate
from gates.rig.provider import provider, says
from gates.rig.service import running

isolate()
with tempfile.TemporaryDirectory() as name, provider() as model:
    settings = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": model.url}
    with sqlite_databases(Path(name)) as new, running(new(), Path(name), **settings) as service:
        [who] = service.people(["member"])
        model.answers(says("Good day."))
        body = {"model": "standard", "messages": [{"role": "user", "content": "Hello."}]}
        answer = service.call(who, "POST", "/v1/chat/completions", json=body)
        if answer.status_code != 200:
            raise SystemExit(f"the provider on loopback was not reached: {answer.text}")
print("a provider on loopback is reached")
