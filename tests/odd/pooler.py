"""A real PgBouncer: the machine's own, or Debian's package unpacked into a folder."""

import shutil
import subprocess
from pathlib import Path

from tests.odd.bench import UnavailableError

PLACES = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def found(folder: Path) -> tuple[str, str]:
    """The program, and the folder of the libraries that it needs beside the machine's. Raises UnavailableError."""
    if (program := shutil.which("pgbouncer") or shutil.which("pgbouncer", path=PLACES)) is not None:
        return program, ""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise UnavailableError("no pgbouncer, and no Debian to take it from")
    folder.mkdir()
    _unpack("pgbouncer", folder)
    for library in _libraries():
        _unpack(library, folder)
    libraries = ":".join(str(path) for path in folder.glob("usr/lib/*") if path.is_dir())
    return str(folder / "usr" / "sbin" / "pgbouncer"), libraries


def _libraries() -> list[str]:
    listed = subprocess.run(["apt-cache", "depends", "pgbouncer"], capture_output=True, text=True, check=False).stdout
    needed = [line.partition("Depends: ")[2].strip() for line in listed.splitlines() if "Depends: lib" in line]
    return [name for name in needed if name.startswith(("libcares", "libc-ares", "libevent"))]


def _unpack(package: str, folder: Path) -> None:
    got = subprocess.run(["apt-get", "download", package], cwd=folder, capture_output=True, text=True, check=False)
    if got.returncode:
        raise UnavailableError(f"the package {package} cannot be had: {got.stderr.strip()[-200:]}")
    for file in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", file, folder], check=True)
        file.unlink()
