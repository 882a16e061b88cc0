"""Options of HTTP requests that stay on loopback: by no proxy, and without TLS.

A client that may need TLS reads the machine's certificates, which costs more than many requests together.
"""

import ssl
from typing import Any

PLAIN: dict[str, Any] = {"trust_env": False, "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
