"""What schemathesis cannot draw from the contract; loaded by it alone, in `make contract`."""

from uuid import uuid4

import schemathesis

KEY = "Idempotency-Key"


@schemathesis.hook
def before_call(context: object, case: object, kwargs: object) -> None:  # noqa: ARG001 - by these names
    """A key that was used with another request is refused, and short ones are drawn again and again: each is made new.

    One that is no key stays as it was drawn."""
    headers = getattr(case, "headers", None) or {}
    drawn = str(headers.get(KEY, ""))
    if 0 < len(drawn) < 200 and all("!" <= each <= "~" for each in drawn):
        headers[KEY] = f"{drawn}-{uuid4().hex}"
