"""Render a service again whenever a file of the template changes: make dev."""

import sys
import time
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent


def _state() -> dict[Path, int]:
    folders = [*TEMPLATE.glob("*project_slug*"), TEMPLATE / "hooks"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in [*files, TEMPLATE / "cookiecutter.json"]}


def main(output: str, *options: str) -> None:
    answers = dict(option.split("=", 1) for option in options)
    before: dict[Path, int] = {}
    while True:
        now = _state()
        if now != before:
            where = cookiecutter(
                str(TEMPLATE), no_input=True, overwrite_if_exists=True, output_dir=output, extra_context=answers
            )
            print(f"rendered into {where}", flush=True)
            before = now
        time.sleep(0.5)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(0)
