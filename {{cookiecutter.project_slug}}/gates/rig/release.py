"""A project that is about to be deployed: this code in a repository of its own, with a catalogue of one control.

Its commands are real (make, scripts/release, gates.release). Replaced are the registry's tools (cosign by a store of
what was signed, docker by this code as what an image carries) and the rollout, of which each start is written down.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gates import evidence, seal, subject
from gates.catalogue import ROOT
from gates.evidence import Record
from gates.rig import pipeline
from gates.rig.pipeline import Ended
from gates.seal import Seal

DIGEST = f"sha256:{'5e' * 32}"
ANOTHER = f"sha256:{'a1' * 32}"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PARTS = ("app", "config", "gates", "migrations", "scripts", "Makefile", "pyproject.toml", ".gitignore")
CATALOGUE = """
[[gate]]
id = "deployment"
prefix = "TST"
name = "Deployment"
question = "?"
minimum = 2
unproven = "Everything else."

[[gate.control]]
id = "TST-01"
weight = "critical"
statement = "It holds."
implemented = ["app/settings.py"]
assertions = ["holds"]
cases = 1
"""
RECORD = Record(
    control="TST-01", proof="gates/test_x.py::test_it_holds", status="PASS", cases=1, minimum=1, positive=("it works",),
    asserted={"holds": 1}, assertion=None, detail="", attempt=1, attempts=1, started="", seconds=1.0, subject={},
    proof_sha256="0", driven=1,
)  # fmt: skip
PYTHON = """#!/bin/bash
case "$*" in "-m gates run"*) echo e2e >>"$CALLS"; exit "${E2E_EXIT:-0}" ;; esac
exec PYTHON "$@"
"""
APP = """#!/bin/bash
echo "$ENVIRONMENT $*" >>"$CALLS"
[ "$ENVIRONMENT" != "${BROKEN:-}" ]
"""
DOCKER = """#!/bin/bash
exec PYTHON -
"""
COSIGN = """#!/bin/bash
# What was signed lies in the store: `signature`, and the predicate of each type of attestation.
for word; do
  case "$previous" in --type) type=${word#https://gates.invalid/} ;; --predicate) file=$word ;; esac
  previous=$word
done
kept="$STORE/$(echo "${type:-signature}" | tr / -)"
case "$1" in
  attest) cp "$file" "$kept" ;;
  *) [ -e "$kept" ] || { echo "Error: no signatures found" >&2; exit 1; }
     echo "{\\"payload\\": \\"$(echo "{\\"predicate\\": $(cat "$kept")}" | base64 --wrap=0)\\"}" ;;
esac
"""
SEAL = "seal-v1"  # what the store calls the signed seal


@dataclass(frozen=True)
class Project:
    root: Path
    tools: Path

    @property
    def store(self) -> Path:
        return self.tools / "store"

    @property
    def evidence(self) -> Path:
        return self.root / evidence.FILE.relative_to(ROOT)

    @property
    def seal(self) -> Path:
        return self.root / seal.FILE.relative_to(ROOT)

    def prove(self, *, age: timedelta = timedelta(hours=1), **changes: object) -> None:
        """Its only proof has run that long ago, on this code, and the evidence was bound to the image and signed."""
        started = (datetime.now(UTC) - age).isoformat()
        record = replace(RECORD, started=started, subject=subject.current(self.root).as_dict(), **changes)  # type: ignore[arg-type]
        self.evidence.unlink(missing_ok=True)
        evidence.append([record], self.evidence)
        self.sign()

    def sign(self) -> None:
        """Bind the evidence as it is, whatever it says, and sign everything."""
        bound = Seal(
            image=DIGEST, evidence=seal.digest(self.root), commit="", decision="GO", at=datetime.now(UTC)
        )  # fmt: skip
        bound.write(self.seal)
        self.store.mkdir(exist_ok=True)
        for name in ("signature", "cyclonedx", "slsaprovenance1"):
            (self.store / name).write_text("{}")
        shutil.copy(self.seal, self.store / SEAL)

    def edit(self, old: str, new: str, *files: Path) -> None:
        for file in files:
            text = file.read_text()
            assert old in text, f"nothing to edit in {file}"
            file.write_text(text.replace(old, new))

    def commit(self) -> None:
        git = ["git", "-C", str(self.root), "-c", "user.name=rig", "-c", "user.email=rig@invalid"]
        subprocess.run([*git, "add", "--all"], check=True, capture_output=True)
        subprocess.run([*git, "commit", "--quiet", "--no-verify", "--message", "as it is"], check=True)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *arguments], cwd=self.root, env=self._environment(), text=True, capture_output=True, check=False
        )

    def run(self, names: Sequence[str], *, digest: str = DIGEST, **environment: str) -> dict[str, Ended]:
        """Run these jobs of the pipeline, as far as they are reached."""
        (self.tools / "calls").unlink(missing_ok=True)
        jobs = [job for job in pipeline.load(self.root, digest) if job.name in names]
        assert len(jobs) == len(names), f"the pipeline has not the jobs {', '.join(names)}"
        return pipeline.run(jobs, self.root, {**self._environment(), **environment})

    @property
    def reached(self) -> list[str]:
        """What the last run has reached: rollouts that were started, each with its environment, and e2e."""
        calls = self.tools / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.tools}:{os.environ['PATH']}", "HOME": str(self.tools), "CALLS": str(self.tools / "calls"),
            "STORE": str(self.store), "IMAGE": "registry.invalid/team/service", "SIGNER": "https://ci.invalid/release",
            "ISSUER": "https://ci.invalid",
        }  # fmt: skip


def project(folder: Path) -> Project:
    """Make one in this folder, committed, and not proven yet."""
    made = Project(folder / "project", folder / "tools")
    made.tools.mkdir(parents=True)
    made.root.mkdir()
    for name in (*PARTS, str(pipeline.GITHUB), str(pipeline.GITLAB)):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, made.root / name, ignore=shutil.ignore_patterns("__pycache__", "sabotage.json")
            )
        elif (ROOT / name).exists():
            (made.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made.root / name)
    (made.root / "gates" / "controls.toml").write_text(CATALOGUE)
    (made.root / "releases.toml").write_text(f'[[releases]]\nrelease = "{VERSION}"\n')
    _tool(made.tools / "cosign", COSIGN)
    _tool(made.tools / "docker", DOCKER)
    _tool(made.root / ".venv" / "bin" / "python", PYTHON)
    _tool(made.root / ".venv" / "bin" / "app", APP)
    (made.root / ".venv" / "bin" / ".ready").touch()
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(made.root)], check=True)
    made.commit()
    return made


def _tool(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("exec PYTHON", f"exec {sys.executable}"))
    file.chmod(0o755)
