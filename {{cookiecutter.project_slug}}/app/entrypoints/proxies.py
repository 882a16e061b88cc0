"""HTTP_PROXY and its like are for what lies outside: loopback is never reached through them. Gate: deployment."""

import os
from collections.abc import MutableMapping

LOOPBACK = ("localhost", "127.0.0.0/8", "127.0.0.1", "::1")  # some clients read networks, some do not


def exempt_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add loopback to the NO_PROXY of this process and its children, for every HTTP client in them.

    A provider, a trace collector and an error tracker elsewhere are still reached by the environment's proxy."""
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""  # in the order in which clients look
    exempt = [name for each in given.split(",") if (name := each.strip())]
    exempt += [name for name in LOOPBACK if name not in exempt]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join(exempt)
