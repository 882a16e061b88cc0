"""Write docs/errors.md from the catalogue: python -m scripts.errors_page"""

from pathlib import Path

from app.errors import CATALOGUE

HEAD = """# Errors

Every error is `application/problem+json` (RFC 9457): `type`, `title`, `status`, `detail`, `code`, `request_id`,
`retryable`, and `errors` with JSON Pointers where fields are wrong. Input is never repeated. A run that fails carries
the same `code` in its `error`. This page is made from `app/errors.py` by `python -m scripts.errors_page`.

| code | status | retry | message | reported |
|---|---|---|---|---|
"""


def page() -> str:
    rows = [
        f"| `{row.code}` | {row.status} | {'yes' if row.retryable else 'no'} | {row.title} "
        f"| {'pages' if row.page else 'counted'} |\n"
        for row in CATALOGUE.values()
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "docs" / "errors.md"
    target.write_text(page(), encoding="utf-8")
    print(f"wrote {target}")
