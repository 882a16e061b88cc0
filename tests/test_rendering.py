"""Every combination of options renders a whole, clean project."""

import ast
import itertools
import json
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cookiecutter.main import cookiecutter

from tests.conftest import NASTY, SOURCE, TEMPLATE, Bake

OPTIONS = {
    name: values
    for name, values in json.loads((TEMPLATE / "cookiecutter.json").read_text()).items()
    if isinstance(values, list) and not name.startswith("_")
}
COMBINATIONS = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*OPTIONS.values())]
ONLY_WITH = {
    "deploy/compose": ("deploy_target", "compose"),
    "deploy/kubernetes": ("deploy_target", "kubernetes"),
    ".github": ("ci", "github"),
    ".gitlab-ci.yml": ("ci", "gitlab"),
}
EXECUTABLE = {
    "scripts/install", "scripts/make-env", "scripts/first-commit", "scripts/no-conflicts", "scripts/propose",
    "scripts/release", "scripts/update", "deploy/compose/slot",
}  # fmt: skip


def _files(project: Path) -> set[str]:
    return {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}


def _expected(options: dict[str, str]) -> set[str]:
    """The files of the template's source without those of the choices that were not made."""
    listed = subprocess.run(
        ["git", "-C", str(SOURCE), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "."],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = {name for name in listed.stdout.split("\0") if name and (SOURCE / name).exists()}
    for path, (option, choice) in ONLY_WITH.items():
        if options[option] != choice:
            wanted = {name for name in wanted if name != path and not name.startswith(f"{path}/")}
    return wanted


def test_the_number_of_combinations_is_what_we_think() -> None:
    assert len(COMBINATIONS) == 64


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(options.values()))
def test_a_combination_has_exactly_its_files_and_they_parse(bake: Bake, options: dict[str, str]) -> None:
    project = bake(**NASTY, **options)
    assert _files(project) - {".cruft.json"} == _expected(options)
    for path in project.rglob("*"):
        if path.is_file():
            _check(path, project)


def _check(path: Path, project: Path) -> None:
    raw = path.read_bytes()
    text = raw.decode("utf-8")
    name = str(path.relative_to(project))
    assert b"\r" not in raw, f"{name}: not LF"
    if raw and name != ".cruft.json":
        assert raw.endswith(b"\n"), f"{name}: no newline at its end"
        assert "cookiecutter." not in text, f"{name}: an unrendered variable"
        assert not re.search(r"# \{%|\{%-? *(if|for|end)", text) or path.suffix == ".html", f"{name}: leftover Jinja"
    executable = bool(path.stat().st_mode & stat.S_IXUSR)
    assert executable == (name in EXECUTABLE), f"{name}: wrong mode"
    _parse(path, text)


def _parse(path: Path, text: str) -> None:
    match path.suffix:
        case ".py":
            ast.parse(text)
        case ".toml":
            tomllib.loads(text)
        case ".json":
            json.loads(text)
        case ".yaml" | ".yml":
            list(yaml.safe_load_all(text))


def test_answers_arrive_unchanged_where_they_are_shown(bake: Bake) -> None:
    project = bake(**NASTY, **COMBINATIONS[0])
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == project.name == "o-neil-q-co"
    assert metadata["description"] == NASTY["description"]
    assert metadata["authors"] == [{"name": NASTY["full_name"], "email": NASTY["email"]}]
    readme = (project / "README.md").read_text()
    assert readme.startswith(f"# {NASTY['project_name']}\n\n{NASTY['description']}\n")


@pytest.mark.parametrize("provider", OPTIONS["model_provider"])
def test_the_chosen_provider_is_a_dependency_and_has_a_model(bake: Bake, provider: str) -> None:
    project = bake(model_provider=provider)
    dependencies = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(f"pydantic-ai-slim[{provider},dbos,evals]" in dependency for dependency in dependencies)
    models = tomllib.loads((project / "config" / "models.toml").read_text())
    assert models["providers"][provider]["standard"]["model"]
    assert f"MODEL_PROVIDER={provider}" in (project / ".env.example").read_text()


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("MIT", "MIT License"),
        ("BSD-3-Clause", "BSD 3-Clause License"),
        ("Apache-2.0", "Apache License"),
        ("Proprietary", "All rights reserved"),
    ],
)
def test_the_chosen_licence_is_there_and_no_other(bake: Bake, licence: str, words: str) -> None:
    text = (bake(license=licence) / "LICENSE").read_text()
    assert words in text.splitlines()[0] or words in text
    others = {"MIT License", "BSD 3-Clause License", "Apache License", "written permission of the copyright"}
    assert sum(other in text for other in others) == 1


def test_rendering_twice_gives_the_same_bytes(bake: Bake, tmp_path: Path) -> None:
    first = bake(**NASTY)
    second = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), extra_context=NASTY))
    assert _files(first) == _files(second)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in _files(first))


def _yaml(path: Path) -> Any:
    return list(yaml.safe_load_all(path.read_text()))


def test_kubernetes_manifests_are_hardened_and_probed(bake: Bake) -> None:
    folder = bake(deploy_target="kubernetes") / "deploy" / "kubernetes"
    [customization] = _yaml(folder / "kustomization.yaml")
    documents = [document for name in customization["resources"] for document in _yaml(folder / name)]
    pods = [d["spec"]["template"]["spec"] for d in documents if d["kind"] in {"Deployment", "Job"}]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert all(c["securityContext"]["readOnlyRootFilesystem"] for c in pod["containers"])
    [web] = [d for d in documents if d["kind"] == "Deployment" and d["metadata"]["name"] == "web"]
    container = web["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] != container["readinessProbe"]["httpGet"]["path"]
