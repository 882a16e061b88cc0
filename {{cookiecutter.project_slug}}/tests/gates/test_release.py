"""The deploy gate and the steps of a pipeline: what each answers, refuses, and writes down."""

import base64
import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gates import carried, go, seal
from gates.catalogue import Catalogue
from gates.rig.release import ANOTHER, DIGEST, Project, project
from gates.scorecard import Decision, GateScore, Scorecard
from gates.seal import Seal, SealUnreadable
from gates.subject import Subject
from scripts import provenance

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SUBJECT = Subject("c0ffee", "tree", False, "config", "policy", "models", "prompts")
LACKING = GateScore(Catalogue.load().gate[0], 1, (), (), (("SEC-01", "its proofs have not run"),))
PUSHED = f'#!/bin/bash\necho "$*" >>"$CALLS"\n[ "$1" != push ] || echo "c0ffee: digest: {DIGEST} size: 1234"\n'
GITHUB = {
    "GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://git.invalid", "GITHUB_REPOSITORY": "team/service",
    "GITHUB_REF": "refs/tags/v1", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_WORKFLOW_REF": "team/service/.github/workflows/release.yaml@refs/tags/v1",
}  # fmt: skip
GITLAB = {
    "GITLAB_CI": "true", "CI_PROJECT_URL": "https://git.invalid/team/service", "CI_JOB_URL": "https://git.invalid/jobs/7",
    "CI_RUNNER_ID": "3", "CI_COMMIT_REF_NAME": "v1",
}  # fmt: skip


def _card(decision: Decision) -> Scorecard:
    return Scorecard((LACKING,) if decision == "PAUSED" else (), decision, "because", SUBJECT, NOW, restricted=False)


def _seal(**changes: object) -> Seal:
    bound = Seal(image=DIGEST, evidence="0" * 32, commit="c0ffee", decision="GO", at=NOW)
    return bound.model_copy(update=changes)


def _envelope(predicate: object) -> str:
    statement = json.dumps({"predicateType": "https://gates.invalid/seal/v1", "predicate": predicate})
    return json.dumps({"payload": base64.b64encode(statement.encode()).decode()})


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return project(tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize(
    ("decision", "waiver", "code", "why"),
    [
        ("GO", False, 0, "GO for no image in particular of commit c0ffee"),
        ("CONDITIONAL", False, 1, "a waiver deploys only where it is asked for"),
        ("CONDITIONAL", True, 0, "CONDITIONAL for"),
        ("PAUSED", True, 1, "because; SEC-01: its proofs have not run"),
        ("CANNOT JUDGE", True, 2, "because"),
    ],
)
def test_only_go_deploys_and_a_waiver_where_it_is_asked_for(
    decision: Decision, waiver: bool, code: int, why: str
) -> None:
    told = go.answer(_card(decision), "", accept_waiver=waiver)
    assert told.code == code
    assert why in told.why


def test_of_several_signed_seals_the_newest_counts() -> None:
    older, newer = _seal(at=NOW - timedelta(hours=1)), _seal(evidence="1" * 32)
    lines = [_envelope(each.model_dump(mode="json")) for each in (newer, older)]
    assert seal.signed("\n".join(lines)) == newer


@pytest.mark.parametrize(
    ("envelopes", "why"),
    [
        ("", "no signed seal was given"),
        ("{}", "an attestation that is none: KeyError"),
        ("[]", "an attestation that is none: TypeError"),
        ('{"payload": "%"}', "an attestation that is none: Error"),
        (_envelope({"image": DIGEST}), "a signed seal: evidence Field required"),
        (_envelope({**_seal().model_dump(mode="json"), "image": "latest"}), "a signed seal: image"),
    ],
)
def test_what_is_no_signed_seal_is_named(envelopes: str, why: str) -> None:
    with pytest.raises(SealUnreadable, match=why):
        seal.signed(envelopes)


def test_what_an_image_carries_is_its_code_and_not_what_python_wrote_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "app" / "here.py"
    file.parent.mkdir()
    file.write_text("1")
    before = carried.digest(tmp_path)
    (tmp_path / "app" / "__pycache__").mkdir()
    (tmp_path / "app" / "__pycache__" / "here.pyc").write_text("x")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("x")
    assert carried.digest(tmp_path) == before
    file.write_text("2")
    assert carried.digest(tmp_path) != before


@pytest.mark.parametrize("variables", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_provenance_names_source_commit_builder_and_run(variables: dict[str, str]) -> None:
    told = provenance.predicate(variables, "c0ffee")
    definition, run = told["buildDefinition"], told["runDetails"]
    assert definition["externalParameters"]["source"] == "https://git.invalid/team/service"
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": "c0ffee"}
    assert run["builder"]["id"].startswith("https://git.invalid/team/service/")
    assert "7" in run["metadata"]["invocationId"]
    with pytest.raises(provenance.NoPipeline, match="has no variable"):
        provenance.predicate(dict(list(variables.items())[:1]), "c0ffee")


def test_outside_a_pipeline_nobody_vouches_for_a_build() -> None:
    with pytest.raises(provenance.NoPipeline, match="no job of GitHub or GitLab"):
        provenance.predicate({}, "c0ffee")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("image", "IMAGE="), "IMAGE is not set: where images go"),
        (("verify", "DIGEST=latest"), "DIGEST is not the digest of an image"),
        (("verify", f"DIGEST={DIGEST}", "SIGNER="), "SIGNER is not set: the workflow whose signature counts"),
        (("sign", f"DIGEST={DIGEST}"), ".gates/sbom.cdx.json is missing; run: make sbom bom"),
        (("deploy", f"DIGEST={DIGEST}"), "ENVIRONMENT is staging or production"),
        (("propose",), "BRANCH and TITLE are needed"),
        (("deployable", f"DIGEST={DIGEST}"), "there is no evidence here; run: make gates"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_a_step_lacks_is_one_sentence(there: Project, arguments: tuple[str, ...], why: str) -> None:
    done = there.make(*arguments)
    assert done.returncode == 2
    first, *rest = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert why in first
    assert rest == []


def test_an_image_is_built_of_a_commit_and_its_digest_is_told(there: Project, tmp_path: Path) -> None:
    here = replace(there, tools=tmp_path)
    (tmp_path / "docker").write_text(PUSHED)
    (tmp_path / "docker").chmod(0o755)
    for step in ("image", "publish"):
        done = here.make(step)
        assert done.returncode == 0, done.stderr
    build, push = here.reached
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=there.root, text=True).strip()
    assert build == f"build --build-arg SOURCE_COMMIT={commit} --tag registry.invalid/team/service:{commit} ."
    assert push == f"push registry.invalid/team/service:{commit}"
    assert (there.root / ".gates" / "release.env").read_text() == f"DIGEST={DIGEST}\n"
    (there.root / "app" / "new.py").touch()
    done = here.make("image")
    (there.root / "app" / "new.py").unlink()
    assert done.returncode == 2
    assert "uncommitted changes" in done.stderr


def test_evidence_is_not_bound_to_an_image_that_carries_other_code(there: Project) -> None:
    there.prove()
    before = there.seal.read_text()
    code = "from gates.release import main; main()"
    command = [".venv/bin/python", "-c", code, "seal", "--digest", ANOTHER, "--carries", "0" * 64]
    done = subprocess.run(command, cwd=there.root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the image carries other code (000000000000) than lies here" in done.stderr
    assert there.seal.read_text() == before


def test_what_a_weekly_run_changed_is_proposed_once_and_nothing_where_nothing_changed(
    there: Project, tmp_path: Path
) -> None:
    remote, gh = tmp_path / "remote.git", there.tools / "gh"
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    subprocess.run(["git", "remote", "add", "origin", str(remote)], cwd=there.root, check=True)
    gh.write_text('#!/bin/bash\necho "gh $*" >>"$CALLS"\n[ "$2" != view ]\n')
    gh.chmod(0o755)
    asked = ("propose", "BRANCH=weekly/dependencies", "TITLE=Take newer $$(id) dependencies", "GH_TOKEN=x")
    assert "nothing has changed" in there.make(*asked).stdout
    (there.root / "config" / "newer.toml").write_text("newer = true\n")
    done = there.make(*asked)
    assert done.returncode == 0, done.stderr
    told = subprocess.check_output(["git", "log", "-1", "--format=%s", "weekly/dependencies"], cwd=remote, text=True)
    assert told == "Take newer $(id) dependencies\n"
    assert there.reached[-1].startswith("gh pr create --head weekly/dependencies --title Take newer $(id)")
