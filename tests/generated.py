"""A generated service in a folder of its own, worked on with its own commands as a user would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from tests.conftest import TEMPLATE

KEPT = (
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "UV_CACHE_DIR",
    "UV_SYSTEM_CERTS",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "CI",
)
# uv of the template's own tools: a user's machine has one or gets one by `make setup`.
PATH = os.pathsep.join([str(TEMPLATE / ".uv" / "bin"), os.environ["PATH"]])
ENVIRONMENT = {name: os.environ[name] for name in KEPT if name in os.environ} | {"PATH": PATH}


def make(project: Path, *targets: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *targets],
        cwd=project,
        env={**ENVIRONMENT, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=15_000,
        check=False,
    )


def succeeds(project: Path, *targets: str, **environment: str) -> str:
    done = make(project, *targets, **environment)
    assert done.returncode == 0, f"make {' '.join(targets)}:\n{done.stdout[-6000:]}"
    return done.stdout


def copy(project: Path, folder: Path) -> Path:
    """The project as another clone of it, without what can be made again."""
    target = folder / uuid4().hex
    shutil.copytree(project, target, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".uv", "data"))
    return target
