"""scripts/release: an image is built only of a version that releases.toml has; a rollout refuses it hours later."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT

DOCKER = """#!/bin/bash
echo "$*" >>"$CALLS"
"""


@pytest.mark.parametrize(("release", "built"), [("1.2.0", True), ("1.2.00", False)])
def test_an_image_is_built_of_a_known_release_only(tmp_path: Path, release: str, built: bool) -> None:
    project, tools = tmp_path / "project", tmp_path / "tools"
    tools.mkdir()
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    (project / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "release", project / "scripts")
    (project / "pyproject.toml").write_text(
        '[project]\nname = "service"\nversion = "1.2.0"\n\n[tool.x]\nversion = "9"\n'
    )
    (project / "releases.toml").write_text(f'# release = "1.2.0"\n[[releases]]\nrelease = "{release}"  # the first\n')
    git = ["git", "-C", str(project), "-c", "user.name=test", "-c", "user.email=test@invalid"]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--no-verify", "--message", "first"]):
        subprocess.run([*git, *words], check=True)
    calls = tmp_path / "calls"
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tools), "CALLS": str(calls), "IMAGE": "team/x"}
    done = subprocess.run(
        ["scripts/release", "image"], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, calls.exists()) == ((0, True) if built else (2, False)), done.stderr
    assert built or "releases.toml has no release 1.2.0, the version of pyproject.toml" in done.stderr
