"""A digest of the code that lies in a folder: the proven one, or the one that an image carries. Gate: deployment.

It is run inside the image by that image's own Python (`make seal`), so it needs the standard library alone. `app`,
`config` and `migrations` are what an image has in common with the repository.
"""

import hashlib
from pathlib import Path

FOLDERS = ("app", "config", "migrations")
LEFT_OUT = "__pycache__"


def digest(root: Path) -> str:
    """SHA-256 over the names and contents of what runs."""
    total = hashlib.sha256()
    found = [file for folder in FOLDERS for file in (root / folder).rglob("*") if file.is_file()]
    for file in sorted(file for file in found if LEFT_OUT not in file.parts):
        content = file.read_bytes()
        total.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


if __name__ == "__main__":
    print(digest(Path.cwd()))
