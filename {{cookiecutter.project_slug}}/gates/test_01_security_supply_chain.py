"""Gate 1, security: what is installed is what was locked, listed and expected, and CI runs what was reviewed."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from app.settings import ROOT
from gates.proof import Proof, control
from gates.rig.world import World
from scripts import sbom

FULL_SHA = re.compile(r"@[0-9a-f]{40}$")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
IMAGE = re.compile(r"^\s*(?:-\s+)?(?:image|name):\s*(\S+)\s*$", re.MULTILINE)
ODD = "Metadata-Version: 2.1\nName: odd\nVersion: 1\n"


def _answers(world: World) -> None:
    assert world.service.call(None, "GET", "/readyz").status_code == 200


@control("SEC-11", cases=50)
def test_what_is_installed_is_what_was_locked_by_hash(proof: Proof, world: World) -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    with proof.positive("the service runs in an environment made from the lock"):
        _answers(world)
        packages, _ = sbom.installed(sys.executable)
        assert len(packages) > 20
    versions = {(package["name"], package["version"]) for package in locked}
    for package in locked:
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        if "registry" in package["source"]:
            hashed = files and all(file["hash"].startswith("sha256:") for file in files)
            proof.holds("hash-locked", hashed, f"{package['name']} has a file without a hash")
        else:
            proof.same("hash-locked", package["source"], {"editable": "."}, package["name"])
    proof.same("as-locked", packages - versions, set(), "installed and not locked:")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for command in re.findall(r"uv sync[^&\n]*", dockerfile):
        proof.holds("hash-locked", "--locked" in command, f"the image is made by {command}")
    for command in re.findall(r"pip install[^&\n]*", dockerfile):
        proof.holds("hash-locked", "--require-hashes" in command, f"the image is made by {command}")


@control("SEC-11", cases=5)
def test_the_bill_lists_what_is_installed_and_nothing_runs_by_itself(
    proof: Proof, world: World, tmp_path: Path
) -> None:
    bill, odd = tmp_path / "sbom.json", tmp_path / "odd"
    with proof.positive("the service runs, and the bill of its environment can be written"):
        _answers(world)
        sbom.write(bill, sys.executable, validate=False)
    listed = json.loads(bill.read_text(encoding="utf-8"))
    packages, folders = sbom.installed(sys.executable)
    proof.same("bill-complete", list(sbom.differences(listed, packages)), [], "of what is installed here:")
    proof.same("pth-known", list(sbom.unexpected_pth(folders)), [], "of what is installed here:")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(odd)], check=True)
    python = str(odd / "bin" / "python")
    _, [place] = sbom.installed(python)
    sbom.write(bill, python, validate=False)
    empty = json.loads(bill.read_text(encoding="utf-8"))
    (place / "odd-1.dist-info").mkdir()
    (place / "odd-1.dist-info" / "METADATA").write_text(ODD)
    (place / "odd.pth").write_text("import os\n")
    packages, folders = sbom.installed(python)
    proof.holds("bill-complete", any("odd 1" in told for told in sbom.differences(empty, packages)), "odd 1 unnoticed")
    missing = list(sbom.differences(listed, packages))
    proof.holds("bill-complete", any("not installed" in told for told in missing), "what is gone is unnoticed")
    proof.holds("pth-known", any("odd.pth" in told for told in sbom.unexpected_pth(folders)), "odd.pth unnoticed")


@control("SEC-11", cases=1)
def test_ci_runs_actions_and_images_that_were_reviewed(proof: Proof, world: World) -> None:
    workflows = sorted((ROOT / ".github").rglob("*.y*ml"))
    gitlab = [file for file in [ROOT / ".gitlab-ci.yml"] if file.exists()]
    with proof.positive("the service runs, and what CI does is read"):
        _answers(world)
        read = {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in [*workflows, *gitlab]}
    if not read:
        proof.absent("this project has no workflow of GitHub's or GitLab's", looked_at=2)
        return
    for file in workflows:
        for used in re.findall(r"^\s*(?:-\s+)?uses:\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            whole = used.startswith("./") or FULL_SHA.search(used) or DIGEST.search(used)
            proof.holds("pinned", whole, f"{file.name} uses {used}: name the commit")
    for file in gitlab:
        for image in re.findall(
            r"^\s*(?:-\s+)?(?:image|name):\s*(\S+)\s*$", file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            proof.holds("pinned", DIGEST.search(image), f"{file.name} runs in {image}: name the digest")
