"""Rules about the template's own sources."""

import ast
import json
import re
import statistics
import subprocess

from tests.conftest import SOURCE, TEMPLATE

JINJA = re.compile(r"\{%|\{\{ ?cookiecutter")
MAXIMUM_LINES = 270
MEDIAN_LINES = 120
HOSTS = (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs"), ("deb", "debian"), ("security", "debian"))


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "-C", str(TEMPLATE), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.split("\0") if name and (TEMPLATE / name).is_file()]


def test_python_files_of_the_service_contain_no_jinja_and_parse_in_place() -> None:
    files = list(SOURCE.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        text = path.read_text()
        assert not JINJA.search(text), f"{path}: Jinja in a Python file"
        ast.parse(text)


def test_modules_are_small() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (SOURCE / "app").rglob("*.py")}
    assert statistics.median(lengths.values()) < MEDIAN_LINES
    assert {path.name: n for path, n in lengths.items() if n > MAXIMUM_LINES} == {}


def test_blocks_are_written_so_that_the_source_stays_valid() -> None:
    bare = re.compile(r"(?<!# )\{%")
    for name in _tracked():
        path = TEMPLATE / name
        if SOURCE in path.parents and path.suffix not in {".html", ".py", ".mako"}:
            assert not bare.search(path.read_text()), f"{name}: write '# {{%' so that the file parses in place"


def test_no_registry_host_lock_file_or_local_path_is_committed() -> None:
    # Written apart, so that this file does not name what it looks for.
    hosts = re.compile("|".join(rf"{host}\.{domain}" for host, domain in HOSTS))
    local = re.compile(r"/(work|farm|home|Users)/[a-z]|/roo" + r"t/(?!\.cache)")
    names = _tracked()
    assert not [name for name in names if name.endswith(("uv.lock", "package-lock.json", ".db"))]
    for name in names:
        text = (TEMPLATE / name).read_text(encoding="utf-8", errors="replace")
        assert not hosts.search(text), f"{name}: names a package registry"
        assert not local.search(text), f"{name}: names a path of somebody's machine"


def test_options_are_at_most_nine_prompts_and_each_is_explained() -> None:
    answers = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    prompts = [name for name in answers if not name.startswith("_")]
    assert len(prompts) <= 9
    assert set(answers["__prompts__"]) == set(prompts)


def test_no_proof_needs_the_file_of_another() -> None:
    """Whoever deletes one file of proofs loses these alone; what several need stands in the rig."""
    files = [path for path in (SOURCE / "gates").rglob("*.py") if "from gates.test_" in path.read_text()]
    assert files == []
