"""When a caught sabotage is stale: once the code that was cut, its proof, or what that proof rests on is another."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from gates.definitions import runs
from gates.sabotage import Kill, Kills, KillsUnreadable

OWN = ("__init__", "catalogue", "definitions", "proof_sources", "sabotage")
FILES = {
    "app/door.py": "def is_open() -> bool:\n    return False\n",
    "gates/plugin.py": "from gates.rig.quiet import silence\n",
    "gates/proof.py": "class Proof: ...\n",
    "gates/conftest.py": (
        "import pytest\nfrom gates.rig.town import Town\nfrom gates.rig.river import River\n\n"
        'pytest_plugins = ["gates.rig.shared"]\n\n\n'
        "@pytest.fixture\ndef town(store):\n    return Town()\n\n\n"
        "@pytest.fixture\ndef river():\n    return River()\n"
    ),
    "gates/rig/__init__.py": "",
    "gates/rig/quiet.py": "silence = 1\n",
    "gates/rig/shared.py": "import pytest\nfrom gates.rig.store import Store\n\n\n@pytest.fixture\ndef store(): ...\n",
    "gates/rig/store.py": "class Store: ...\n",
    "gates/rig/town.py": "from gates.rig.street import Street\n\n\nclass Town: ...\n",
    "gates/rig/street.py": "class Street: ...\n",
    "gates/rig/river.py": "class River: ...\n",
    "gates/rig/clock.py": "HOUR = 1\n",
    "gates/test_other.py": "SHARED = 1\nALONE = 2\n\n\ndef asked():\n    return SHARED\n",
    "gates/test_door.py": (
        "from gates.proof import Proof\nfrom gates.rig import clock\nfrom gates.test_other import asked\n\n"
        "DOORS = [1]\nWINDOWS = [1]\n\n\n"
        'def _knock():\n    """Politely."""\n    return DOORS, asked()\n\n\n'
        "def test_door(proof: Proof, town):\n    assert _knock()  # hard\n\n\n"
        "def test_window(proof: Proof, river):\n    assert WINDOWS, clock.HOUR\n"
    ),
}
PROOF = "gates/test_door.py::test_door"
CODE = """
import json, sys
from gates.sabotage import Kill, Kills, digests, harness_key
cut, proofs = json.load(sys.stdin)
files, harness = digests(cut, proofs)
print(json.dumps([files, harness, harness_key(harness)]))
"""


class Service:
    """A folder with proofs of its own, and the record of one kill there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FILES.items():
            self.write(name, text)
        for name in OWN:
            shutil.copy(ROOT / "gates" / f"{name}.py", folder / "gates")

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def record(self) -> dict[str, Any]:
        files, harness, key = self.ask(CODE, [["app/door.py"], [PROOF]])
        kill = Kill("SEC-01", "SEC-01-open", "closed", "test_door", "0", files, key)
        self.write("gates/sabotage.json", json.dumps({"harnesses": {key: harness}, "kills": [kill.__dict__]}))
        return {**files, **harness}

    def stale(self) -> list[str]:
        code = "import json; from gates.sabotage import Kills; print(json.dumps(Kills.load().stale))"
        found: dict[str, list[str]] = self.ask(code)
        return found.get("SEC-01-open", [])

    def ask(self, code: str, given: object = None) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, input=json.dumps(given), stdout=subprocess.PIPE, text=True,
            check=True,
        )  # fmt: skip
        return json.loads(done.stdout)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path)
    made.record()
    return made


def test_a_kill_rests_on_what_was_cut_its_proof_and_the_harness_that_this_proof_imports(tmp_path: Path) -> None:
    assert sorted(Service(tmp_path).record()) == [
        "app/door.py", "gates/conftest.py", "gates/plugin.py", "gates/proof.py", "gates/rig/quiet.py",
        "gates/rig/shared.py", "gates/rig/store.py", "gates/rig/street.py", "gates/rig/town.py", PROOF,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.change("app/door.py", "False", "False"),
        lambda s: s.change("gates/rig/river.py", "...", "width = 2"),
        lambda s: s.change("gates/rig/clock.py", "1", "2"),
        lambda s: s.change("gates/test_door.py", "assert WINDOWS", "assert not WINDOWS"),
        lambda s: s.change("gates/test_door.py", "WINDOWS = [1]", "WINDOWS = [1, 2]"),
        lambda s: s.write("gates/test_door.py", FILES["gates/test_door.py"] + "\n\ndef test_more(): ...\n"),
        lambda s: s.change("gates/test_other.py", "ALONE = 2", "ALONE = 3"),
        lambda s: s.change("gates/test_door.py", "# hard", "# twice"),
        lambda s: s.change("gates/test_door.py", "Politely", "Loudly"),
        lambda s: s.write("gates/rig/unused.py", "x = 1\n"),
        lambda s: s.write("app/other.py", "x = 1\n"),
    ],
    ids=[
        "nothing", "harness of another proof", "harness that only another test of the file imports", "another test",
        "a constant of another test", "a test that was added", "an unused constant of an imported file of proofs",
        "a comment", "a docstring", "a module that nothing imports", "code that was not cut",
    ],
)  # fmt: skip
def test_what_a_proof_does_not_use_leaves_its_kill_fresh(service: Service, change: Callable[[Service], None]) -> None:
    change(service)
    assert service.stale() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("app/door.py", "False", "True"), "app/door.py"),
        (("gates/rig/town.py", "...", "size = 2"), "gates/rig/town.py"),
        (("gates/rig/street.py", "...", "width = 2"), "gates/rig/street.py"),
        (("gates/rig/store.py", "...", "size = 2"), "gates/rig/store.py"),
        (("gates/rig/quiet.py", "1", "2"), "gates/rig/quiet.py"),
        (("gates/plugin.py", "silence\n", "silence\nloud = 1\n"), "gates/plugin.py"),
        (("gates/proof.py", "...", "held = True"), "gates/proof.py"),
        (("gates/conftest.py", "return River()", "return None"), "gates/conftest.py"),
        (("gates/test_door.py", "assert _knock()", "assert True"), PROOF),
        (("gates/test_door.py", "return DOORS", "return 1"), PROOF),
        (("gates/test_door.py", "DOORS = [1]", "DOORS = []"), PROOF),
        (("gates/test_door.py", "DOORS = [1]\n", "DOORS = [1]\nDOORS += [2]\n"), PROOF),
        (("gates/test_door.py", "WINDOWS = [1]\n", "WINDOWS = [1]\nprint(1)\n"), PROOF),
        (("gates/test_door.py", "WINDOWS = [1]\n", "WINDOWS = [1]\npytestmark = []\n"), PROOF),
        (("gates/test_door.py", "import asked", "import ALONE as asked"), PROOF),
        (("gates/test_other.py", "SHARED = 1", "SHARED = 3"), PROOF),
        (("gates/test_door.py", "def test_door(", "def test_gate("), PROOF),
    ],
)
def test_what_a_proof_uses_makes_its_kill_stale(service: Service, change: tuple[str, str, str], told: str) -> None:
    service.change(*change)
    assert told in service.stale()


def test_the_proof_s_file_is_gone(service: Service) -> None:
    (service.folder / "gates" / "test_door.py").unlink()
    assert service.stale() == [PROOF]


def test_a_kill_that_names_no_proof_is_stale() -> None:
    kills = Kills({"h": {}}, (Kill("SEC-01", "SEC-01-open", "closed", "test_door", "0", {"app/main.py": "0"}, "h"),))
    assert "SEC-01-open" in kills.stale


def test_the_reason_says_how_many_sabotages_are_stale_and_what_changed() -> None:
    kills = tuple(Kill("SEC-01", f"SEC-01-{n}", "closed", "test_door", "0", {}, "h") for n in range(3))
    record = Kills({"h": {}}, kills)
    record.__dict__["stale"] = {
        "SEC-01-1": ("app/a.py", "app/b.py"),
        "SEC-01-2": ("app/b.py", "gates/c.py", "app/d.py"),
    }
    told = "stale: 2 of 3 sabotages are not shown since a change of app/a.py, app/b.py, app/d.py and 1 more"
    assert record.uncaught("SEC-01") == told
    assert record.uncaught("SEC-02") == "no sabotage of it was tried"
    record.__dict__["stale"] = {}
    assert not record.uncaught("SEC-01")


def test_a_kill_with_a_harness_that_is_not_in_the_record_is_refused(tmp_path: Path) -> None:
    kill = Kill("SEC-01", "SEC-01-open", "closed", "test_door", "0", {}, "missing")
    file = tmp_path / "sabotage.json"
    file.write_text(json.dumps({"harnesses": {}, "kills": [kill.__dict__]}))
    with pytest.raises(KillsUnreadable, match="SEC-01-open names the harness missing"):
        Kills.load(file)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x = 1  # why\n", "x = 1"),
        ("# why\nx = '# not a comment'\n", "x = '# not a comment'"),
        ('"""What."""\n\nx = """\n# text\n"""\n', '\nx = """\n# text\n"""'),
        ('def f():\n    """What."""\n    return 1\n', "def f():\n    return 1"),
        ('def f():\n    """What."""\n', 'def f():\n    """What."""'),
        ('def f():\n    """What."""; return 1\n', 'def f():\n    """What."""; return 1'),
    ],
)
def test_comments_and_docstrings_do_not_run(text: str, left: str) -> None:
    assert runs(text) == left
