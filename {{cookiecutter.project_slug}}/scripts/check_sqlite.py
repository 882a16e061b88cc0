"""Say at setup, in one sentence, that the SQLite of this Python is too old for the database that is configured."""

import sys

from app.config_files import SettingsInvalid
from app.db.sqlite_version import SqliteTooOld, require_sqlite
from app.settings import load_settings


def main() -> int:
    try:
        if load_settings().is_sqlite:
            require_sqlite()
    except SqliteTooOld as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except SettingsInvalid:
        pass  # what is wrong with .env is said by whatever needs it, `app doctor` first of all
    return 0


if __name__ == "__main__":
    sys.exit(main())
