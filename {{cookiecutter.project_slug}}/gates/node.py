"""Packages of Node.js for the checks that play somebody else's software: a provider of identities, a client."""

import shutil
import subprocess
import sys
from pathlib import Path


def install(home: Path, package: str) -> None:
    """Install a package into a folder. Ends the process with a message where that cannot be done."""
    if not shutil.which("node") or not shutil.which("npm"):
        print("Node.js is not installed: node and npm are needed for this target only", file=sys.stderr)
        raise SystemExit(2)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), package]
    if subprocess.run(command, check=False).returncode != 0:
        print(f"npm could not install {package}. Is the package registry reachable from here?", file=sys.stderr)
        raise SystemExit(2)
