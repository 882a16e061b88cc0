"""A copy of an SQLite database while the service works on it, by SQLite's own online backup. Gate: deployment."""

import sqlite3
from contextlib import closing
from pathlib import Path


class BackupRefused(Exception):
    """The copy cannot be made; the message says why."""


def back_up(source: Path, target: Path) -> int:
    """Copy the database of one moment to a file that does not exist yet; returns its size in bytes.

    A copy of the file alone would miss the write-ahead log (SQLite, "Online Backup API"). Raises BackupRefused."""
    if not source.is_file():
        raise BackupRefused(f"There is no database at {source}.")
    if target.exists():
        raise BackupRefused(f"{target} exists: a backup overwrites nothing.")
    partial = target.with_name(f"{target.name}.partial")
    try:
        with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(partial)) as copy:
            database.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            [(verdict,)] = copy.execute("PRAGMA integrity_check").fetchall()
        if verdict != "ok":
            raise BackupRefused(f"The copy is damaged: {verdict}")
        partial.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise BackupRefused(f"{target} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size
