"""How fast this machine is now, so that what it takes too long for is not held against the service.

A wait for the machine (a process that starts, a run that ends) is ten times what an idle one needs. Running out of it
is no verdict: OutOfTime. Where the time itself is asserted, a service is late only if the machine alone does not
explain the delay; the measure is a reference job, timed in the same run.
"""

import subprocess
import sys
import time
from collections.abc import Callable

GENEROUS = 10
REQUEST_SECONDS = 300.0  # until a request of the harness itself is given up: a control has deadlines of its own
REFERENCE = (sys.executable, "-c", "import json, sqlite3")  # 0.05 s on an idle machine
EXPLAINED = 20  # a step of the service that is late costs at most as much as so many references


class OutOfTime(Exception):
    """The time ran out before there was anything to judge; the message says for what."""


def reference() -> float:
    """Seconds that this machine takes now for a fixed job: starting a process and importing two modules."""
    began = time.monotonic()
    subprocess.run(REFERENCE, check=True)
    return time.monotonic() - began


def grace() -> float:
    """Seconds by which the machine alone may make a step of the service late, now."""
    return EXPLAINED * reference()


def reached(ready: Callable[[], object], seconds: float) -> bool:
    """Poll for so many seconds; whether the answer became true. It is asked once more at the end."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return bool(ready())
        time.sleep(0.05)
    return True
