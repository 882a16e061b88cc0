"""The hooks: answers are checked all at once, and what was not chosen is gone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooks.post_gen_project import BELONGS_TO, prune
from hooks.pre_gen_project import TEMPLATE_SYNTAX, problems
from tests.conftest import NASTY, TEMPLATE

GOOD = {**NASTY, "project_slug": "o-neil-q-co"}


def test_good_answers_have_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize("slug", ["", "Desk", "9desk", "-desk", "des k", "desk_x", "désk", "a" * 64, "desk\n", "../x"])
def test_a_wrong_slug_is_named_with_what_is_allowed(slug: str) -> None:
    [problem] = problems({**GOOD, "project_slug": slug})
    assert "project_slug" in problem
    assert "lower-case" in problem


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("project_name", "", "empty"),
        ("description", "x" * 301, "at most 300"),
        ("full_name", "two\nlines", "control"),
        ("full_name", "bell\x07", "control"),
        ("description", "line\u2028end", "control"),
        ("description", "{{ cookiecutter }}", "must not contain"),
        ("description", "{% raw %}", "must not contain"),
        ("email", "nobody", "name@example.com"),
        ("project_name", " padded", "space"),
    ],
)
def test_a_wrong_answer_is_named(name: str, value: str, words: str) -> None:
    [problem] = problems({**GOOD, name: value})
    assert problem.startswith(name)
    assert words in problem


def test_every_problem_is_reported_at_once() -> None:
    assert (
        len(problems({"project_slug": "X", "email": "x", "description": "{{", "full_name": "", "project_name": ""}))
        == 5
    )


@given(st.text(max_size=120))
def test_what_the_check_lets_through_is_one_plain_line(text: str) -> None:
    if not problems({**GOOD, "full_name": text}):
        assert text
        assert text.splitlines() == [text]
        assert not any(mark in text for mark in TEMPLATE_SYNTAX)


def _cookiecutter(output: Path, *answers: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "cookiecutter"), "--no-input", "-o", str(output), str(TEMPLATE)]
    return subprocess.run([*command, *answers], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("project_slug=Wrong Slug", "project_slug"),
        ("project_name=9 Lives", "project_slug"),
        ("license=WTFPL", "license"),
        ("model_provider=", "model_provider"),
        ("description=a }} b", "description"),
    ],
)
def test_a_refused_answer_gives_one_message_and_leaves_nothing(tmp_path: Path, answer: str, words: str) -> None:
    done = _cookiecutter(tmp_path, answer)
    assert done.returncode != 0
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    assert _cookiecutter(blocked).returncode != 0


def test_a_good_answer_says_what_comes_next(tmp_path: Path) -> None:
    done = _cookiecutter(tmp_path, "project_name=Ticket Desk")
    assert done.returncode == 0
    assert "make setup" in done.stdout


def test_pruning_twice_is_pruning_once(tmp_path: Path) -> None:
    answers = {"deploy_target": "compose", "ci": "github"}
    for choices in BELONGS_TO.values():
        for paths in choices.values():
            for path in paths:
                (tmp_path / path).mkdir(parents=True)
    for _ in range(2):
        prune(answers, tmp_path)
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
        assert left == {"deploy", "deploy/compose", ".github"}


def test_a_project_knows_its_template_and_answers(tmp_path: Path) -> None:
    repository = committed_copy(tmp_path)
    output = tmp_path / "out"
    command = [str(Path(sys.executable).parent / "cookiecutter"), "--no-input", "-o", str(output), str(repository)]
    done = subprocess.run(
        [*command, *(f"{k}={v}" for k, v in NASTY.items())], capture_output=True, text=True, check=True
    )
    assert "make setup" in done.stdout
    state = json.loads((output / "o-neil-q-co" / ".cruft.json").read_text())
    head = subprocess.run(["git", "-C", repository, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert state["commit"] == head.stdout.strip()
    assert state["template"] == str(repository)
    assert {name: state["context"]["cookiecutter"][name] for name in NASTY} == NASTY


def test_a_template_named_by_a_relative_path_is_remembered_by_its_whole_one(tmp_path: Path) -> None:
    """fault 16"""
    repository = committed_copy(tmp_path)
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    command = [str(Path(sys.executable).parent / "cookiecutter"), "--no-input", f"../{repository.name}"]
    environment = {**os.environ, "PWD": str(elsewhere), "GIT_DIR": str(tmp_path / "another")}  # as a shell would
    subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=True)
    state = json.loads((elsewhere / "ai-service" / ".cruft.json").read_text())
    assert state["template"] == str(repository)


def test_a_template_that_is_no_repository_is_said_to_give_no_updates(tmp_path: Path) -> None:
    """fault 16"""
    repository = committed_copy(tmp_path)
    shutil.rmtree(repository / ".git")
    command = [str(Path(sys.executable).parent / "cookiecutter"), "--no-input", "-o", str(tmp_path), str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not (tmp_path / "ai-service" / ".cruft.json").exists()
    assert "cannot be updated" in done.stdout


def committed_copy(folder: Path) -> Path:
    """The template as a repository of its own with everything committed."""
    target = folder / "template"
    listed = subprocess.run(
        ["git", "-C", TEMPLATE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (TEMPLATE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((TEMPLATE / name).read_bytes())
            (target / name).chmod((TEMPLATE / name).stat().st_mode)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "-qb", "main"], ["add", "-A"], [*identity, "commit", "-qm", "v1"]):
        subprocess.run(["git", "-C", target, *command], check=True)
    return target
