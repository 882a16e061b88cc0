"""Unique strings put in the place of every secret, and a search for them in anything that came out."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


def canary(name: str) -> str:
    """Looks like a secret and is none; no pattern of a redactor should know it."""
    return f"{name}-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Canaries:
    """By the name of what each stands in for."""

    values: Mapping[str, str] = field(default_factory=dict)

    def found_in(self, output: bytes) -> list[str]:
        """The names of the canaries in `output`: plain, hexadecimal, percent-encoded or base64 at any alignment."""
        lowered = output.lower()
        return [name for name, value in self.values.items() if any(form in lowered for form in _forms(value))]


def _forms(value: str) -> set[bytes]:
    raw = value.encode()
    forms = {raw, raw.hex().encode(), quote(value, safe="").encode(), raw[::-1]}
    for shift in range(3):
        # The first and last characters depend on the neighbours; the middle does not.
        forms.add(base64.b64encode(b"\0" * shift + raw)[4:-4])
        forms.add(base64.urlsafe_b64encode(b"\0" * shift + raw)[4:-4])
    return {form.lower() for form in forms}
