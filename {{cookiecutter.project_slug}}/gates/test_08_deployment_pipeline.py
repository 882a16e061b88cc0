"""Gate 8, deployment: the pipeline's own jobs, run here, never reach a rollout without a fresh GO for that image."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gates.conftest import Target
from gates.proof import Proof, control
from gates.rig.release import ANOTHER, DIGEST, SEAL, VERSION, Project, project

JOBS = ("staging", "e2e", "production")
ROLLOUT = f"rollout start {DIGEST} --release {VERSION}"
Spoil = Callable[[Project], object]


def _signed_again(project: Project) -> None:
    """A red record is turned green, and whoever does it makes the seal fit; the signed one does not."""
    project.prove(status="FAIL", assertion="holds", detail="it does not")
    signed = (project.store / SEAL).read_text()
    project.edit('"FAIL"', '"PASS"', project.evidence)
    project.sign()
    (project.store / SEAL).write_text(signed)


def _forged(project: Project) -> None:
    """A scorecard that says GO lies beside evidence that does not."""
    project.prove(status="FAIL", assertion="holds", detail="it does not")
    project.evidence.with_name("scorecard.json").write_text('{"decision": "GO", "restricted": false}')


def _another_commit(project: Project) -> None:
    project.prove()
    project.edit("It holds.", "It holds still.", project.root / "gates" / "controls.toml")
    project.commit()


SPOILT: list[tuple[str, str, Spoil]] = [
    ("red", "TST-01: holds: it does not", _forged),
    ("stale", "older than 24 hours", lambda p: p.prove(age=timedelta(hours=25))),
    ("wrong-commit", "the evidence is of commit", _another_commit),
    ("edited", "changed after it was bound", _signed_again),
    ("missing", "there is no evidence here", lambda p: p.evidence.unlink()),
    ("unsigned", "no signatures found", lambda p: (p.store / "signature").unlink()),
    ("unsigned", "no signatures found", lambda p: (p.store / "slsaprovenance1").unlink()),
    ("unsigned", "no signatures found", lambda p: (p.store / SEAL).unlink()),
]


@pytest.fixture
def deployable(tmp_path: Path) -> Project:
    """A project that is proven, bound to its image by its own commands, and signed."""
    made = project(tmp_path)
    made.prove()
    sealed = made.make("seal", f"DIGEST={DIGEST}")
    assert sealed.returncode == 0, sealed.stderr
    return made


@control("DEP-06", cases=21)
def test_no_job_deploys_without_a_fresh_go_for_that_image(proof: Proof, deployable: Project, target: Target) -> None:
    with proof.positive("what is proven and signed reaches staging, is tried there, and reaches production"):
        ended = deployable.run(JOBS)
        assert {name: job.code for name, job in ended.items()} == dict.fromkeys(JOBS, 0), ended
        assert deployable.reached == [f"staging {ROLLOUT}", "e2e", f"production {ROLLOUT}"]
        assert target.call("GET", "/v1/runs").status_code == 200
    for assertion, why, spoil in SPOILT:
        deployable.prove()
        spoil(deployable)
        _refused(proof, deployable, assertion, why)
    deployable.prove()
    _refused(proof, deployable, "wrong-digest", f"of the image {DIGEST}", ANOTHER)
    for broken in ({"BROKEN": "staging"}, {"E2E_EXIT": "1"}):
        deployable.run(JOBS, **broken)
        proof.same("staging-first", [call for call in deployable.reached if call.startswith("prod")], [], broken)
    proof.same("staging-first", deployable.reached, [f"staging {ROLLOUT}", "e2e"], "as far as it came:")


def _refused(proof: Proof, project: Project, assertion: str, why: str, digest: str = DIGEST) -> None:
    """The last job alone, as when somebody starts it again: it decides by itself."""
    [ended] = project.run(["production"], digest=digest).values()
    proof.same(assertion, project.reached, [], f"{why}: deployed")
    proof.holds(assertion, ended.code != 0 and why in ended.output, f"{ended.code}: {ended.output}")
