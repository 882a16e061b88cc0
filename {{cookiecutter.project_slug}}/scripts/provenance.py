"""`python -m scripts.provenance`: how this image was built, as SLSA provenance v1 has it (slsa.dev/spec/v1.0).

Read from what GitHub and GitLab set for a job. It is signed by the job's own identity, with which its statements about
source and builder can be compared.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from os import environ
from typing import Any


class NoPipeline(Exception):
    """Not in a job of GitHub or GitLab; the message says what is missing."""


def predicate(variables: Mapping[str, str], commit: str) -> dict[str, Any]:
    """Raises NoPipeline."""
    builder, repository, reference, run = _facts(variables)
    return {
        "buildDefinition": {
            "buildType": f"{repository}/blob/{commit}/scripts/release",
            "externalParameters": {"source": repository, "ref": reference, "commands": ["make image", "make publish"]},
            "resolvedDependencies": [{"uri": f"git+{repository}@{reference}", "digest": {"gitCommit": commit}}],
        },
        "runDetails": {"builder": {"id": builder}, "metadata": {"invocationId": run}},
    }


def _facts(variables: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Builder, repository, reference and run, each as an address where it is one."""
    try:
        if variables.get("GITHUB_ACTIONS") == "true":
            repository = f"{variables['GITHUB_SERVER_URL']}/{variables['GITHUB_REPOSITORY']}"
            run = f"{repository}/actions/runs/{variables['GITHUB_RUN_ID']}/attempts/{variables['GITHUB_RUN_ATTEMPT']}"
            builder = f"{variables['GITHUB_SERVER_URL']}/{variables['GITHUB_WORKFLOW_REF']}"
            return builder, repository, variables["GITHUB_REF"], run
        if variables.get("GITLAB_CI") == "true":
            repository, run = variables["CI_PROJECT_URL"], variables["CI_JOB_URL"]
            return (
                f"{repository}/-/runners/{variables['CI_RUNNER_ID']}",
                repository,
                variables["CI_COMMIT_REF_NAME"],
                run,
            )
    except KeyError as error:
        raise NoPipeline(f"the job has no variable {error.args[0]}") from None
    raise NoPipeline("no job of GitHub or GitLab runs here, so nobody could vouch for this build")


if __name__ == "__main__":
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    try:
        print(json.dumps(predicate(environ, head), indent=1))
    except NoPipeline as error:
        print(f"provenance: {error}", file=sys.stderr)
        sys.exit(2)
