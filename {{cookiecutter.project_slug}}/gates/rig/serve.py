"""The service under proof: `python -m gates.rig.serve serve` is `app serve` with the rig's parts in place.

Nothing of the service is cut out. Added are the features of the rig, and a record of the processes it starts; replaced
are the clock, lookups of `*.rig.test` and what the other features' tools do at their very end. Shipped code has no
switch for any of it.
"""

import os
import socket
from pathlib import Path

CLOCK = "RIG_CLOCK"
NAMES = "RIG_NAMES"
PROCESSES = "RIG_PROCESSES"


def main() -> None:
    # Order matters: the clock is imported by name, and features before everything that reads them.
    from app.db import base  # noqa: PLC0415
    from gates.rig import clock, names, processes  # noqa: PLC0415

    if CLOCK in os.environ:
        base.utc_now = clock.reading(Path(os.environ[CLOCK]))
    if NAMES in os.environ:
        socket.getaddrinfo = names.scripted(Path(os.environ[NAMES]))

    if PROCESSES in os.environ:
        processes.record(Path(os.environ[PROCESSES]))

    from app import features  # noqa: PLC0415
    from gates.rig import hazard, probe  # noqa: PLC0415

    features.FEATURES = (*map(probe.recorded, features.FEATURES), probe.FEATURE, hazard.FEATURE)

    from app.entrypoints.cli import main as command_line  # noqa: PLC0415

    command_line()


if __name__ == "__main__":
    main()
