"""The catalogue, its page, its proofs and the code it names say the same."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from gates import dependencies
from gates.catalogue import Catalogue, CatalogueInvalid
from gates.page import page
from gates.sabotage import Kills

CATALOGUE = Catalogue.load()
COUNT = """
import json, pytest
class Counter:
    def pytest_collection_finish(self, session):
        found = {}
        for item in session.items:
            marker = item.get_closest_marker("control")
            found[marker.args[0]] = found.get(marker.args[0], 0) + marker.kwargs["cases"]
        print("COUNTED" + json.dumps(found))
pytest.main(["-p", "gates.plugin", "--collect-only", "-qq", "gates"], plugins=[Counter()])
"""


def test_the_page_is_the_catalogue() -> None:
    assert (ROOT / "docs" / "gates.md").read_text() == page(CATALOGUE), "run: python -m gates page"


def test_the_page_of_dependencies_is_what_is_declared() -> None:
    told = dependencies.page(dependencies.load())
    assert (ROOT / "docs" / "dependencies.md").read_text() == told, "run: python -m gates page"
    proofs = (ROOT / "gates" / "test_04_errors_dependencies.py").read_text()
    assert [d.name for d in dependencies.load() if f'"{d.name}"' not in proofs] == [], "declared, and run by no proof"


def test_every_gate_has_criticals_and_every_control_a_sentence() -> None:
    assert len(CATALOGUE.gate) == 10
    assert len(CATALOGUE.controls) > 120
    for gate in CATALOGUE.gate:
        assert sum(control.weight == "critical" for control in gate.control) >= 4
    assert all(control.statement.endswith(".") for control in CATALOGUE.controls.values())


def test_what_implements_a_control_exists_and_says_so() -> None:
    for gate in CATALOGUE.gate:
        for control in gate.control:
            for name in control.implemented:
                path = ROOT / name
                assert path.is_file(), f"{control.id}: {name}"
                if path.suffix == ".py":
                    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
                    named = re.search(r"^Gate: ([a-z, ]+)\.$|\bGate: ([a-z, ]+)\.$", docstring, re.MULTILINE)
                    assert named, f"{name} implements {control.id}: end its docstring with 'Gate: {gate.id}.'"
                    assert gate.id in named[0], f"{name} implements {control.id}: name {gate.id} in 'Gate: …'"


def test_the_catalogue_asks_for_exactly_the_cases_that_its_proofs_promise() -> None:
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("COUNTED")]
    promised = json.loads(line.removeprefix("COUNTED"))
    assert promised == {control.id: control.cases for control in CATALOGUE.controls.values() if control.cases}


def test_the_sabotage_record_names_assertions_and_proofs_that_exist() -> None:
    record = Kills.load()
    proofs = "\n".join(path.read_text() for path in (ROOT / "gates").glob("test_*.py"))
    assert record.kills
    # A stale kill may name what was renamed since: it counts for nothing until it is shown again.
    for kill in (kill for kill in record.kills if kill.patch not in record.stale):
        assert kill.assertion in CATALOGUE.controls[kill.control].assertions
        assert f"def {kill.proof}(" in proofs


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('id = "SEC-02"', 'id = "SEC-01"'), "used twice"),
        (('id = "SEC-02"', 'id = "AUT-99"'), "begin with SEC-"),
        (("cases = 12\n", ""), "come together"),
        (('weight = "critical"', 'weight = "urgent"'), "weight"),
        (("[[gate]]", "[[gate"), "controls.toml"),
    ],
)
def test_a_catalogue_that_contradicts_itself_is_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    text = (ROOT / "gates" / "controls.toml").read_text()
    assert change[0] in text
    file = tmp_path / "controls.toml"
    file.write_text(text.replace(*change, 1))
    with pytest.raises(CatalogueInvalid, match=told):
        Catalogue.load(file)


def test_an_unknown_gate_is_refused_with_what_there_is() -> None:
    with pytest.raises(CatalogueInvalid, match="choose from security, access"):
        CATALOGUE.named("cots")
    assert [gate.id for gate in CATALOGUE.named("cost, errors")] == ["errors", "cost"]
