"""What an image is built from: the files of this commit or folder, with canaries where secrets lie, under any umask."""

import os
import shutil
import subprocess
from pathlib import Path

from app.settings import ROOT
from gates.rig.canaries import canary

LEFT_OUT = shutil.ignore_patterns(".venv", ".uv", ".git", ".gates", "data", "__pycache__", ".env", ".*_cache")
SECRET_FILES = (".env", "config/.env", "app/server.key", "config/client.pem", "data/app.db")
# What becomes of a repository's modes when it is cloned under that umask; git keeps the bit for programs alone.
MODES = {0o022: (0o755, 0o644), 0o077: (0o700, 0o600)}


def prepared(folder: Path, umask: int) -> tuple[Path, dict[str, str]]:
    """A copy of this service as a checkout under that umask, and its canaries by where each lies."""
    shutil.copytree(ROOT, folder, ignore=LEFT_OUT, symlinks=True)
    canaries = {name: canary(name.replace("/", "-").replace(".", "-")) for name in SECRET_FILES}
    for name, value in canaries.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"SECRET={value}\n")
    of_folder, of_file = MODES[umask]
    for where, _, files in os.walk(folder):
        Path(where).chmod(of_folder)
        for name in files:
            file = Path(where) / name
            if not file.is_symlink():
                file.chmod(of_file | (0o100 if file.stat().st_mode & 0o100 else 0))
    return folder, canaries


def commit() -> str:
    """The commit that is checked out here, as a build would label its image; zeros outside a repository."""
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "0" * 40
