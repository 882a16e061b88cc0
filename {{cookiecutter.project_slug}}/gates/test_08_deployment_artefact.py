"""Gate 8, deployment: what runs says what it is, and the same source gives the same bill of materials."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.settings import ROOT
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.world import World

COMMIT, IMAGE = "89abcdef0123456789abcdef0123456789abcdef", f"sha256:{'c3' * 32}"
SOURCE = ("app", "config", "migrations", "pyproject.toml")
COMPOSED = {"name", "version", "commit", "image_digest"}  # the rest are hashes
Edit = Callable[[Path], None]


def _edit(name: str, before: str, after: str) -> Edit:
    def edit(source: Path) -> None:
        text = (source / name).read_text(encoding="utf-8")
        assert before in text, f"{name} has no {before}"
        (source / name).write_text(text.replace(before, after, 1), encoding="utf-8")

    return edit


def _prompt(source: Path) -> None:
    """The first prompt that there is: features are the product's."""
    first = min((source / "app" / "features").rglob("*.md"))
    first.write_text(first.read_text(encoding="utf-8") + "\nBe brief.\n", encoding="utf-8")


def _reprice(source: Path) -> None:
    """Every price that the file says; a table of the offline model's where it says none."""
    file = source / "config" / "models.toml"
    text = re.sub(r'(put_usd_per_mtok = ")[0-9.]+', r"\g<1>77.5", file.read_text(encoding="utf-8"))
    file.write_text(text if "[providers.offline]" in text else text + OFFLINE, encoding="utf-8")


OFFLINE = """
[providers.offline]
standard = { model = "offline-deterministic-1", input_usd_per_mtok = "77.5", output_usd_per_mtok = "77.5" }
"""
CHANGES: dict[str, tuple[Edit, set[str]]] = {
    "policy": (_edit("config/policy.toml", 'decision = "', 'decision = "deny" # "'), {"policy"}),
    "prompt": (_prompt, {"prompts"}),
    "prices": (_reprice, {"models", "prices"}),
}


def _copy(folder: Path) -> Path:
    """The source as another builder has it: elsewhere, with other times."""
    folder.mkdir()
    for name in SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def _app(source: Path, *arguments: str) -> Any:
    """What a command of that source prints, as JSON, with nothing of this environment's settings."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(source)}
    command = [sys.executable, "-m", "app", *arguments, "--json"]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@control("DEP-01", cases=10)
def test_a_running_service_reports_what_was_built_and_deployed(proof: Proof, new_world: NewWorld) -> None:
    with new_world(SOURCE_COMMIT=COMMIT, IMAGE_DIGEST=IMAGE) as world:
        with proof.positive("the service is ready and answers on its operations port"):
            assert world.service.call(None, "GET", "/readyz").status_code == 200
            assert world.service.operations("/version").status_code == 200
        told = world.service.operations("/version").json()
        proof.same("reported", told["commit"], COMMIT, "commit:")
        proof.same("reported", told["image_digest"], IMAGE, "digest:")
        proof.same("reported", told["schema"]["database"], told["schema"]["code"], "revisions of a current schema:")
        proof.holds("reported", told["schema"]["code"], "no revision of the code")
        stored = [row[0] for row in world.sql("SELECT version_num FROM alembic_version ORDER BY version_num")]
        proof.same("reported", told["schema"]["database"], stored, "revisions in the store:")
        proof.same("reported", json.loads(world.command("version", "--json").stdout), told, "app version:")
        proof.same("reported", set(told["prompts"]) >= {"probe"}, True, "prompts of the features that run:")
        for name in ("policy", "models", "prices"):
            proof.holds("reported", re.fullmatch(r"[0-9a-f]{16}", told[name]), f"{name}: {told[name]}")


@control("DEP-01", cases=8)
def test_hashes_follow_the_source_and_the_same_source_gives_the_same_bill(
    proof: Proof, world: World, tmp_path: Path
) -> None:
    first, second = _copy(tmp_path / "one"), _copy(tmp_path / "two")
    with proof.positive("the service of this source runs, and another copy of it tells what it is"):
        assert world.service.operations("/version").status_code == 200
        version, bill = _app(first, "version"), _app(first, "bom")
    proof.same("reproduced", _app(second, "version"), version)
    proof.same("reproduced", _app(second, "bom"), bill, "AI bill of materials:")
    expected: set[str] = set()
    for what, (edit, hashes) in CHANGES.items():  # one after the other in the same copy
        edit(second)
        expected |= hashes
        after = _app(second, "version")
        proof.same("hash-follows", {name for name in version if version[name] != after[name]}, expected, what)
    parts = [part for part in _app(second, "bom")["components"] if part not in bill["components"]]
    differing = {part["bom-ref"].partition("/")[0] for part in parts}
    proof.same("hash-follows", differing, {"policy", "prompt"}, "parts of the bill that differ:")
    files = {part["name"] for part in parts if part["bom-ref"].startswith("policy/")}
    proof.same("hash-follows", files, {"policy.toml", "models.toml"}, "files of the bill that differ:")
    hashed = {name for name in version if name not in COMPOSED}
    proof.same("hash-follows", hashed, {"policy", "prompts", "models", "prices", "schema"})


@control("DEP-01", cases=4)
def test_the_image_is_built_from_a_fixed_base_and_labelled_by_its_source(proof: Proof, world: World) -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    with proof.positive("the service that the image would hold runs, and its Dockerfile is read"):
        assert world.service.call(None, "GET", "/readyz").status_code == 200
        assert any(line.startswith("FROM ") for line in lines)
    defaults = dict(line.removeprefix("ARG ").partition("=")[::2] for line in lines if line.startswith("ARG "))
    for base in [line.split()[1] for line in lines if line.startswith("FROM ")]:
        image = re.sub(r"\$\{(\w+)\}", lambda found: defaults.get(found[1], ""), base)
        proof.holds("pinned-base", re.search(r"@sha256:[0-9a-f]{64}$", image), f"{base} is {image}")
    proof.holds("labelled", "ENV SOURCE_COMMIT=$SOURCE_COMMIT" in lines, "the image does not say its source")
    label = "LABEL org.opencontainers.image.revision=$SOURCE_COMMIT"
    proof.holds("labelled", label in lines, "the image is not labelled by its source")
