"""What serving reads of the migrations agrees with the migration library, and doubts where it cannot know."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from app.entrypoints.revisions import all_applied, readability
from app.entrypoints.schema import alembic_config
from app.settings import ROOT, load_settings


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Two roots; the first of `app` depends on the second of `template`, so its head alone stands for both."""
    _write(tmp_path, "template/t1.py", "revision = 't1'\ndown_revision = None")
    _write(tmp_path, "template/t2.py", "revision: str = 't2'\ndown_revision: str | None = 't1'\ndepends_on = None")
    _write(tmp_path, "app/a1.py", "revision = 'a1'\ndown_revision = None\ndepends_on = ('t2',)")
    return tmp_path


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_the_heads_of_this_code_cover_every_migration_and_no_other_revision_does() -> None:
    script = ScriptDirectory.from_config(alembic_config(load_settings()))
    heads = set(script.get_heads())
    assert all_applied(ROOT / "migrations", heads)
    for revision in script.walk_revisions():
        if revision.revision not in heads:
            assert not all_applied(ROOT / "migrations", [revision.revision])
    assert not all_applied(ROOT / "migrations", [])


def test_a_head_covers_what_it_depends_on(migrations: Path) -> None:
    assert all_applied(migrations, ["a1"])
    assert all_applied(migrations, ["a1", "t2"])
    assert not all_applied(migrations, ["t2"])


@pytest.mark.parametrize(
    "text",
    [
        "revision = 't' + '3'\ndown_revision = 't2'",
        "revision = 't3'\ndown_revision = 'template@head'",
        "revision = 't2'\ndown_revision = None",
        "revision = ",
    ],
)
def test_what_cannot_be_read_is_in_doubt(migrations: Path, text: str) -> None:
    _write(migrations, "template/t3.py", text)
    for stored in (["a1"], ["a1", "t3"], ["a1", "t2"]):
        assert not all_applied(migrations, stored)


def test_a_head_of_newer_code_is_in_doubt(migrations: Path) -> None:
    assert not all_applied(migrations, ["a1", "ffff"])


def test_a_migration_may_name_one_before_it_in_its_root_and_says_nothing_else(migrations: Path) -> None:
    _write(migrations, "template/t3.py", "revision = 't3'\ndown_revision = 't2'\nreadable_by = 't1'")
    assert readability(migrations) == {"a1": None, "t1": None, "t2": None, "t3": "t1"}


@pytest.mark.parametrize("named", ["'t3'", "'t4'", "'a1'", "'ffff'", "''"])
def test_what_is_no_migration_before_it_in_its_root_is_refused(migrations: Path, named: str) -> None:
    _write(migrations, "template/t4.py", "revision = 't4'\ndown_revision = 't3'")
    _write(migrations, "template/t3.py", f"revision = 't3'\ndown_revision = 't2'\nreadable_by = {named}")
    with pytest.raises(ValueError, match=r"t3: readable_by is .* no migration of template/ before it"):
        readability(migrations)


def test_a_computed_readable_by_is_refused(migrations: Path) -> None:
    _write(migrations, "template/t3.py", "revision = 't3'\ndown_revision = 't2'\nreadable_by = 't' + '1'")
    with pytest.raises(ValueError, match=r"t3\.py: readable_by has to be a literal"):
        readability(migrations)
