"""The pipeline of this project, as its file has it, run here: the jobs' commands by bash, the actions left out.

What decides whether a job or a step is reached is done as GitHub and GitLab do it: `needs`, `if`, `continue-on-error`,
`allow_failure`, `when`.
"""

import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

GITHUB = Path(".github/workflows/release.yaml")
GITLAB = Path(".gitlab-ci.yml")
BASH = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]  # as both call it
NOT_JOBS = {"default", "variables", "workflow", "stages"}
REGARDLESS = re.compile(r"always|failure|cancelled")  # conditions under which a job or step runs after a failure
EXPRESSION = re.compile(r"\$\{\{ *(.+?) *\}\}")


@dataclass(frozen=True)
class Step:
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    regardless: bool = False  # it runs after a step that failed
    tolerated: bool = False  # it may fail


@dataclass(frozen=True)
class Job:
    name: str
    needs: tuple[str, ...]
    steps: tuple[Step, ...]
    environment: str = ""
    regardless: bool = False
    tolerated: bool = False


@dataclass(frozen=True)
class Ended:
    code: int
    output: str


def load(root: Path, digest: str) -> list[Job]:
    """The jobs of the release, in the order of the file, for an image that was built with this digest."""
    if (root / GITHUB).exists():
        return list(_github(yaml.safe_load((root / GITHUB).read_text()), {"needs.build.outputs.digest": digest}))
    return list(_gitlab(yaml.safe_load((root / GITLAB).read_text()), {"DIGEST": digest}))


def run(jobs: Iterable[Job], root: Path, environment: Mapping[str, str]) -> dict[str, Ended]:
    """Run these jobs as far as they are reached. Whatever else they need counts as done."""
    ended: dict[str, Ended] = {}
    failed: set[str] = set()
    for job in jobs:
        if job.regardless or not failed.intersection(job.needs):
            ended[job.name] = _job(job, root, environment)
        if not job.tolerated and (job.name not in ended or ended[job.name].code):
            failed.add(job.name)
    return ended


def _job(job: Job, root: Path, environment: Mapping[str, str]) -> Ended:
    code, output = 0, ""
    for step in job.steps:
        if code and not step.regardless:
            continue
        done = subprocess.run(
            [*BASH, step.command], cwd=root, env={**environment, **step.environment}, check=False, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output += done.stdout
        code = code or (0 if step.tolerated else done.returncode)
    return Ended(code, output)


def _github(workflow: Mapping[str, Any], values: Mapping[str, str]) -> Iterable[Job]:
    for name, job in workflow["jobs"].items():
        steps = tuple(
            Step(
                step["run"],
                {key: _filled(text, values) for key, text in {**job.get("env", {}), **step.get("env", {})}.items()},
                regardless=bool(REGARDLESS.search(str(step.get("if", "")))),
                tolerated=bool(step.get("continue-on-error")),
            )
            for step in job["steps"]
            if "run" in step
        )
        yield Job(
            name, _names(job.get("needs", ())), steps, _environment(job),
            regardless=bool(REGARDLESS.search(str(job.get("if", "")))), tolerated=bool(job.get("continue-on-error")),
        )  # fmt: skip


def _gitlab(pipeline: Mapping[str, Any], values: Mapping[str, str]) -> Iterable[Job]:
    for name, job in pipeline.items():
        if name in NOT_JOBS or name.startswith("."):
            continue
        yield Job(
            name, _names(job.get("needs", ())), tuple(Step(line, values) for line in job["script"]), _environment(job),
            regardless=job.get("when") in {"always", "on_failure"}, tolerated=bool(job.get("allow_failure")),
        )  # fmt: skip


def _filled(text: object, values: Mapping[str, str]) -> str:
    return EXPRESSION.sub(lambda found: values.get(found[1], ""), str(text))


def _names(needs: str | Collection[str]) -> tuple[str, ...]:
    return (needs,) if isinstance(needs, str) else tuple(needs)


def _environment(job: Mapping[str, Any]) -> str:
    found = job.get("environment", "")
    return str(found["name"] if isinstance(found, dict) else found)
