"""SQLite in other versions than the machine's, compiled from the amalgamation that a package of npm carries."""

import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.odd.bench import UnavailableError

# Of better-sqlite3: the first below what is needed, the first that is enough, the newest.
RELEASES = {"too-old": "7.4.5", "oldest": "7.4.6", "newest": "latest"}
OPTIONS = ("-DSQLITE_ENABLE_FTS5", "-DSQLITE_ENABLE_JSON1", "-DSQLITE_ENABLE_COLUMN_METADATA", "-DSQLITE_THREADSAFE=1")


def built(release: str, folder: Path) -> Path:
    """A folder with libsqlite3.so.0, for LD_LIBRARY_PATH. Raises UnavailableError."""
    for program in ("npm", "gcc"):
        if shutil.which(program) is None:
            raise UnavailableError(f"no {program} here to build SQLite with")
    folder.mkdir()
    packed = subprocess.run(
        ["npm", "pack", "--silent", f"better-sqlite3@{RELEASES[release]}"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if packed.returncode:
        raise UnavailableError(f"SQLite's source cannot be had: {packed.stderr.strip()[-200:]}")
    _unpack(folder / packed.stdout.strip().splitlines()[-1], folder)
    for inner in list(folder.rglob("sqlite3.tar.gz")):
        _unpack(inner, folder)
    source = next(folder.rglob("sqlite3.c"))
    command = ["gcc", "-O0", "-fPIC", "-shared", "-Wl,-soname,libsqlite3.so.0", *OPTIONS, "-o", "libsqlite3.so.0"]
    subprocess.run([*command, str(source), "-ldl", "-lm", "-lpthread"], cwd=folder, check=True, capture_output=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
