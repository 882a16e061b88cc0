"""Load on a service started here: people read, start runs and wait for them. Loopback only.

make run                        (in one terminal; issue a member's key with `app keys issue`)
API_KEY=svc_… make load         (in another)

For a service on another port, such as the demo's: LOCUST_HOST=http://127.0.0.1:PORT API_KEY=… make load
"""

import os
from urllib.parse import urlsplit
from uuid import uuid4

from locust import HttpUser, between, events, task
from locust.env import Environment

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@events.init.add_listener
def _only_loopback(environment: Environment, **_: object) -> None:
    host = urlsplit(environment.host or "").hostname
    if host not in LOOPBACK:
        raise SystemExit(f"load goes to this machine only, not to {host}")
    if not os.environ.get("API_KEY"):
        raise SystemExit("API_KEY is not set: use a member's key of the service you started")


@events.quitting.add_listener
def _judge(environment: Environment, **_: object) -> None:
    """Exit 1 when too many requests failed or the control plane was slow."""
    total = environment.stats.total
    slow = total.get_response_time_percentile(0.95) or 0
    if total.fail_ratio > 0.01 or slow > float(os.environ.get("P95_MS", "1000")):
        environment.process_exit_code = 1


class Member(HttpUser):
    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        self.client.headers["Authorization"] = f"Bearer {os.environ['API_KEY']}"
        self.client.trust_env = False

    @task(3)
    def list_runs(self) -> None:
        self.client.get("/v1/runs?limit=20", name="list runs")

    @task(1)
    def start_run(self) -> None:
        body = {"feature": "assistant", "task": "Find tickets about printers."}
        self.client.post("/v1/runs", json=body, headers={"Idempotency-Key": uuid4().hex}, name="start run")
