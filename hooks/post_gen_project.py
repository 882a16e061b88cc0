"""Remove what was not chosen, make the project updatable, say what comes next. Pure and offline.

It also runs twice inside every `cruft update`, so it must give the same tree each time, fail never,
and be silent then.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

# Paths that belong to one choice of an option; the other choices' paths are removed.
BELONGS_TO: dict[str, dict[str, tuple[str, ...]]] = {
    "deploy_target": {"compose": ("deploy/compose",), "kubernetes": ("deploy/kubernetes",)},
    "ci": {"github": (".github",), "gitlab": (".gitlab-ci.yml",)},
}
RENDER_STATE = {"_output_dir", "_repo_dir", "_checkout", "_template"}


def prune(answers: dict[str, Any], root: Path) -> None:
    """Remove the paths of every choice that was not made."""
    for option, choices in BELONGS_TO.items():
        for choice, paths in choices.items():
            for path in paths if answers[option] != choice else ():
                target = root / path
                if target.is_dir():
                    shutil.rmtree(target)
                else:
                    target.unlink(missing_ok=True)


def cruft_state(answers: dict[str, Any]) -> dict[str, Any] | None:
    """The content of .cruft.json for a project rendered by plain cookiecutter.

    None under cruft, which writes its own, and where the template is not a git repository."""
    repository = _found(answers.get("_repo_dir"), answers)
    if "_commit" in answers or not repository:
        return None
    commit, top = _git(repository, "rev-parse", "HEAD"), _git(repository, "rev-parse", "--show-toplevel")
    if not commit or not top or not Path(top).samefile(repository):
        return None
    template = _found(answers["_template"], answers)
    if not template:  # "gh:org/name": cruft needs the whole address
        template = _git(repository, "remote", "get-url", "origin")
        if not template:
            return None
    kept = {key: value for key, value in answers.items() if key not in RENDER_STATE}
    return {
        "template": template,
        "commit": commit,
        "checkout": answers.get("_checkout"),
        "context": {"cookiecutter": {**kept, "_template": template, "_commit": commit}},
        "directory": None,
    }


def _found(path: str | None, answers: dict[str, Any]) -> str:
    """A folder as an absolute path, empty where there is none.

    A relative one is relative to where cookiecutter was called, and a hook runs in the new project."""
    called_from = [os.environ.get("PWD", ""), str(answers.get("_output_dir", "")), ""]
    candidates = [Path(folder, path).absolute() for folder in called_from if path]
    return next((os.path.normpath(each) for each in candidates if each.is_dir()), "")


def _git(repository: str, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # of another repository
    try:
        done = subprocess.run(
            ["git", "-C", repository, *arguments], check=True, capture_output=True, text=True, timeout=10, env=own
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def main() -> None:
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    root = Path.cwd()
    prune(answers, root)
    state = cruft_state(answers)
    if state is not None:
        text = json.dumps(state, ensure_ascii=False, indent=2) + "\n"
        (root / ".cruft.json").write_text(text, encoding="utf-8")
    if "_commit" not in answers:
        if state is None:
            print("No .cruft.json: the template is no git repository, so this project cannot be updated from it.")
        print(f"Generated {answers['project_slug']}. Next:\n  cd {answers['project_slug']}\n  make setup\n  make demo")


if __name__ == "__main__":
    main()
