"""The pipelines of GitHub and GitLab: the same steps, thin over make, pinned, and with few rights."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import SOURCE, Bake

WORKFLOWS = ("ci", "release", "rollback", "weekly")
NOT_JOBS = {"default", "variables", "workflow", "stages"}
REGARDLESS = r"always\(|failure\(|cancelled\("  # conditions under which a job or step runs after a failure
# Every job's rights at GitHub; a job that is not here has none. More rights need a line here.
READ, PUSHES, SIGNS = {"contents": "read"}, {"packages": "write"}, {"id-token": "write"}
PROPOSES = {"contents": "write", "pull-requests": "write"}
RIGHTS = {
    "ci/check": READ,
    "release/check": READ,
    "release/build": READ | PUSHES,
    "release/attest": READ | PUSHES | SIGNS,
    "release/gates": READ | PUSHES | SIGNS,
    "release/staging": READ | {"packages": "read"},
    "release/e2e": READ,
    "release/production": READ | {"packages": "read"},
    "rollback/rollback": READ,
    "weekly/dependencies": PROPOSES,
    "weekly/template": PROPOSES,
}
Jobs = dict[str, dict[str, Any]]
Workflows = dict[str, dict[Any, Any]]  # by name


@pytest.fixture(scope="module")
def github(bake: Bake) -> Workflows:
    """The workflows by name."""
    folder = bake(ci="github") / ".github" / "workflows"
    assert {path.stem for path in folder.iterdir()} == set(WORKFLOWS)
    return {name: yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in WORKFLOWS}


@pytest.fixture(scope="module")
def gitlab(bake: Bake) -> Jobs:
    pipeline = yaml.safe_load((bake(ci="gitlab") / ".gitlab-ci.yml").read_text())
    return {name: job for name, job in pipeline.items() if name not in NOT_JOBS and not name.startswith(".")}


def _all_jobs(github: Workflows) -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow, document in github.items():
        for name, job in document["jobs"].items():
            yield f"{workflow}/{name}", job


def _commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def _environment(job: dict[str, Any]) -> str:
    found = job.get("environment", "")
    return str(found["name"] if isinstance(found, dict) else found)


def test_both_pipelines_do_the_same_steps_in_the_same_order(github: Workflows, gitlab: Jobs) -> None:
    at_github: dict[str, list[str]] = {}
    for name, job in _all_jobs(github):
        commands = at_github.setdefault(name.partition("/")[2], _commands(job))
        assert commands == _commands(job), f"{name}: other steps than the job of that name in another workflow"
    assert list(at_github) == list(gitlab)
    assert at_github == {name: job["script"] for name, job in gitlab.items()}


def test_both_pipelines_wait_for_the_same_jobs_at_the_same_places(github: Workflows, gitlab: Jobs) -> None:
    release = github["release"]["jobs"]
    for name, job in release.items():
        # GitLab hands files over along `needs` only, and GitHub by an artifact: gates is needed for its evidence.
        handed_over = {"gates"} if name == "production" else set()
        assert set(job.get("needs", ())) | handed_over == set(gitlab[name].get("needs", ())), name
        assert _environment(job) == _environment(gitlab[name]), name
    order = list(release)
    assert order == ["check", "build", "attest", "gates", "staging", "e2e", "production"]
    for name, job in release.items():
        assert all(order.index(needed) < order.index(name) for needed in job.get("needs", ())), name
        assert name == "check" or order[order.index(name) - 1] in job["needs"], f"{name} does not wait for the last one"


def test_one_deployment_at_a_time_and_none_is_cancelled(github: Workflows, gitlab: Jobs) -> None:
    for name in ("staging", "production"):
        concurrency = github["release"]["jobs"][name]["concurrency"]
        assert concurrency == {"group": gitlab[name]["resource_group"], "cancel-in-progress": False}
    assert github["rollback"]["concurrency"] == {"group": "production", "cancel-in-progress": False}
    assert gitlab["rollback"]["resource_group"] == "production"
    assert github["release"]["concurrency"]["cancel-in-progress"] is False


def test_a_checkout_on_the_machine_keeps_the_record_of_rollouts(github: Workflows, gitlab: Jobs) -> None:
    """Both clean the folder by default, also of what git ignores: the next rollout would find that nothing serves."""
    on_the_machine = {"staging", "e2e", "production", "rollback"}
    for name, job in _all_jobs(github):
        [checkout] = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert (checkout["with"].get("clean") is False) == ("self-hosted" in job["runs-on"]), name
        assert ("self-hosted" in job["runs-on"]) == (name.partition("/")[2] in on_the_machine), name
    for name, job in gitlab.items():
        kept = "-e data/" in job.get("variables", {}).get("GIT_CLEAN_FLAGS", "")
        assert kept == (name in on_the_machine), name


def test_a_rollback_is_started_by_hand_and_by_an_alert(github: Workflows, gitlab: Jobs) -> None:
    triggers = github["rollback"][True]  # YAML 1.1 reads the key `on` as true
    assert set(triggers) == {"workflow_dispatch", "repository_dispatch"}
    [rule] = gitlab["rollback"]["rules"]
    assert rule["if"] == '$ROLLBACK == "true" && $CI_PIPELINE_SOURCE =~ /^(trigger|web)$/'


def test_every_step_is_a_target_of_the_makefile(gitlab: Jobs) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (SOURCE / "Makefile").read_text(), re.MULTILINE))
    for name, job in gitlab.items():
        for command in job["script"]:
            called = re.fullmatch(r'make ([a-z0-9-]+)( [A-Z]+=("[^"`]*"|[a-z/]+))*', command)
            assert called, f"{name}: {command}"
            # These two come with the image's bills of materials.
            assert called[1] in targets, f"{name}: {command}"


def test_no_job_goes_on_after_a_failure(github: Workflows, gitlab: Jobs) -> None:
    for name, job in _all_jobs(github):
        for part in (job, *job["steps"]):
            assert "continue-on-error" not in part, name
            assert not re.search(REGARDLESS, str(part.get("if", ""))), name
    for name, job in gitlab.items():
        assert not {"allow_failure", "when", "after_script"} & set(job), name
    for document in github.values():
        assert document["defaults"]["run"]["shell"] == "bash"  # with pipefail


def test_everything_from_elsewhere_is_pinned_by_its_content(bake: Bake) -> None:
    used = [
        line.strip().removeprefix("- ")
        for path in sorted((bake(ci="github") / ".github").rglob("*.yaml"))
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]
    assert len(used) > 20
    for line in used:
        assert re.fullmatch(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    assert len({line.partition("@")[0] for line in used}) == len(set(used)), "one action in two versions"
    pipeline = yaml.safe_load((bake(ci="gitlab") / ".gitlab-ci.yml").read_text())
    images = [pipeline["default"]["image"], *(job["image"] for job in pipeline.values() if "image" in job)]
    for image in images:
        assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", image), image


def test_no_job_has_more_rights_than_listed(github: Workflows) -> None:
    assert all(document["permissions"] == {} for document in github.values())
    assert {name: job["permissions"] for name, job in _all_jobs(github)} == RIGHTS


def test_what_a_webhook_wrote_never_becomes_text_of_a_command(github: Workflows) -> None:
    """Neither of bash (an expression in `run:`) nor of make (a variable that a recipe expands)."""
    for name, job in _all_jobs(github):
        assert not any("${{" in command for command in _commands(job)), name
    makefile = (SOURCE / "Makefile").read_text()
    assert re.findall(r"\$\((?:DIGEST|TO|BRANCH|TITLE|ENVIRONMENT)\)", makefile) == []


@pytest.mark.parametrize("ci", ["github", "gitlab"])
@pytest.mark.parametrize("target", ["compose", "kubernetes"])
def test_a_project_has_its_own_pipeline_and_what_that_calls(bake: Bake, ci: str, target: str) -> None:
    project: Path = bake(ci=ci, deploy_target=target)
    assert (project / ".github").exists() == (ci == "github")
    assert (project / ".gitlab-ci.yml").exists() == (ci == "gitlab")
    for script in ("release", "propose"):
        assert (project / "scripts" / script).stat().st_mode & 0o111
