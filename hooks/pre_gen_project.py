"""Check every answer before a file is written, and name all problems at once. Changes nothing."""

import json
import re
import sys
import unicodedata

SLUG = re.compile(r"[a-z][a-z0-9-]{0,62}")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
FREE_TEXT = {"project_name": 80, "description": 300, "full_name": 120, "email": 120}
# Every answer is rendered again on each update, so template syntax in one would be run then.
# The pairs are put together here because this file is rendered as well.
TEMPLATE_SYNTAX = tuple("{" + mark for mark in "{%#") + tuple(mark + "}" for mark in "}%#")
LINE_ENDS = "\x85\u2028\u2029\ufffe\uffff"


def problems(answers: dict[str, str]) -> list[str]:
    """What is wrong with the answers, one sentence each; empty when nothing is."""
    found = [_text_problem(name, str(answers.get(name, "")), limit) for name, limit in FREE_TEXT.items()]
    slug = str(answers.get("project_slug", ""))
    if not SLUG.fullmatch(slug):
        found.append(
            f"project_slug {slug!r}: start with a lower-case letter, then lower-case letters, digits and hyphens, "
            "at most 63; for example ticket-desk"
        )
    email = str(answers.get("email", ""))
    if email.strip() and not EMAIL.fullmatch(email):
        found.append("email: must look like name@example.com")
    return [problem for problem in found if problem]


def _text_problem(name: str, text: str, limit: int) -> str:
    if not text.strip():
        return f"{name}: must not be empty"
    if len(text) > limit:
        return f"{name}: at most {limit} characters, this has {len(text)}"
    if text != text.strip():
        return f"{name}: remove the space at its start or end"
    if any(unicodedata.category(char) in {"Cc", "Cs"} or char in LINE_ENDS for char in text):
        return f"{name}: control characters and line breaks are not allowed"
    if any(mark in text for mark in TEMPLATE_SYNTAX):
        return f"{name}: must not contain any of {' '.join(TEMPLATE_SYNTAX)}"
    return ""


def main() -> int:
    found = problems(json.loads(r"""{{ cookiecutter | tojson }}"""))
    if found:
        print("The project was not generated. Please change:", file=sys.stderr)
        for problem in found:
            print(f"  - {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
