"""What the settings of an OpenID Connect provider need of each other. Gate: access."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.settings import Settings


def oidc_gaps(settings: "Settings") -> list[str]:
    """What is missing, unsafe or contradictory, by the name of its key."""
    api = {
        "OIDC_ISSUER": settings.oidc_issuer,
        "OIDC_AUDIENCE": settings.oidc_audience,
        "OIDC_JWKS_URL": settings.oidc_jwks_url,
    }
    console = {
        "OIDC_CLIENT_ID": settings.oidc_client_id,
        "OIDC_AUTHORIZATION_URL": settings.oidc_authorization_url,
        "OIDC_TOKEN_URL": settings.oidc_token_url,
    }
    problems = []
    for group, needed in ((api, any((api | console).values())), (console, any(console.values()))):
        problems += [f"{name}: needed with the other OIDC settings" for name, v in group.items() if needed and not v]
    if (
        settings.oidc_client_id
        and settings.oidc_client_id == settings.oidc_audience
        and settings.oidc_token_type.upper() == "JWT"
    ):
        problems.append("OIDC_AUDIENCE: must differ from OIDC_CLIENT_ID, or identity tokens pass for access tokens")
    unsafe = [name for name in settings.oidc_algorithms if not re.fullmatch(r"(RS|PS|ES)(256|384|512)|EdDSA", name)]
    if unsafe or not settings.oidc_algorithms:
        problems.append("OIDC_ALGORITHMS: RS, PS or ES with 256, 384 or 512, or EdDSA")
    plain = [name for name, url in (api | console).items() if name.endswith("_URL") and url and url[:8] != "https://"]
    if settings.environment in {"staging", "production"}:
        problems += [f"{name}: must be an https:// address" for name in plain]
    return problems
