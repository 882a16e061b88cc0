"""What the settings of an OpenID Connect provider need of each other. Gate: access, deployment."""

import re
from collections.abc import Mapping, Sequence

Given = Mapping[str, str | None]


def oidc_gaps(api: Given, console: Given, *, algorithms: Sequence[str], token_type: str, only_https: bool) -> list[str]:
    """What is missing, unsafe or contradictory, by the name of its key.

    `api` are the settings that the API's access tokens need, `console` those that people need to sign in."""
    given = {**api, **console}
    problems = []
    for group, needed in ((api, any(given.values())), (console, any(console.values()))):
        problems += [f"{name}: needed with the other OIDC settings" for name, v in group.items() if needed and not v]
    is_same = bool(given["OIDC_CLIENT_ID"]) and given["OIDC_CLIENT_ID"] == given["OIDC_AUDIENCE"]
    if is_same and token_type.upper() == "JWT":
        problems.append("OIDC_AUDIENCE: must differ from OIDC_CLIENT_ID, or identity tokens pass for access tokens")
    unsafe = [name for name in algorithms if not re.fullmatch(r"(RS|PS|ES)(256|384|512)|EdDSA", name)]
    if unsafe or not algorithms:
        problems.append("OIDC_ALGORITHMS: RS, PS or ES with 256, 384 or 512, or EdDSA")
    plain = [name for name, url in given.items() if name.endswith("_URL") and url and url[:8] != "https://"]
    return [*problems, *(f"{name}: must be an https:// address" for name in plain if only_https)]
