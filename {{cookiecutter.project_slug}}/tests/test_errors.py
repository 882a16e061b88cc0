"""The catalogue and its page say the same."""

import re
from pathlib import Path

from app.errors import CATALOGUE, AppError
from app.settings import ROOT


def test_codes_are_unique_and_well_formed() -> None:
    classes = AppError.__subclasses__()
    assert len({cls.row.code for cls in classes}) == len(classes) == len(CATALOGUE)
    assert all(re.fullmatch(r"[a-z]+\.[a-z_]+", code) for code in CATALOGUE)
    assert all(400 <= row.status < 600 for row in CATALOGUE.values())


def test_every_error_is_raised_somewhere() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py") if path.name != "errors.py")
    unused = [cls.__name__ for cls in AppError.__subclasses__() if not re.search(rf"\b{cls.__name__}\b", source)]
    assert unused == []


def test_the_page_of_errors_is_the_catalogue() -> None:
    page = Path(ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \| (yes|no) \|", page, re.MULTILINE)
    listed = {code: (int(status), retry == "yes") for code, status, retry in rows}
    assert listed == {code: (row.status, row.retryable) for code, row in CATALOGUE.items()}
