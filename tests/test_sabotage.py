"""What the sweep plans, tries within its time, records and lists; its trials themselves are `make sabotage`."""

import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import SOURCE, Bake
from tests.sabotage import plan, record, sweep
from tests.sabotage.patches import Patch, PatchInvalid, load
from tests.sabotage.plan import UNTRIED, Planned, planned, touched_controls
from tests.sabotage.record import Caught
from tests.sabotage.sweep import KEPT_AFTER
from tests.sabotage.trial import DID_NOT_END, Result, verdict

PROOF = "gates/test_x.py::test_x"


def _patch(name: str, cuts: str = "app/x.py", folder: Path = Path("/patches")) -> Patch:
    patch = Patch(folder / f"{name}.patch", name[:6], "holds", "test_x", "It.", "sha-" + name)
    if folder.is_dir():
        patch.file.write_text(f"--- a/{cuts}\n+++ b/{cuts}\n")
    return patch


PATCHES = [_patch(f"{control}-{n}") for control in ("SEC-01", "SEC-02", "AUT-01", "CST-01") for n in range(10)]
STALE = {patch.name: ("app/x.py",) for patch in PATCHES if patch.control in {"SEC-02", "AUT-01"}}


def _why(tried: Sequence[Planned]) -> list[str]:
    return [each.why for each in tried]


def test_every_proven_control_has_a_patch_and_every_patch_an_assertion_and_a_proof_that_are_there() -> None:
    gates = tomllib.loads((SOURCE / "gates" / "controls.toml").read_text())["gate"]
    proven = {c["id"]: c["assertions"] for gate in gates for c in gate["control"] if "assertions" in c}
    patches = load()
    assert {patch.control for patch in patches} == set(proven)
    proofs = "\n".join(path.read_text() for path in (SOURCE / "gates").glob("test_*.py"))
    for patch in patches:
        assert patch.assertion in proven[patch.control], patch.name
        assert f"def {patch.proof}(" in proofs, patch.name


def test_every_patch_applies_and_leaves_python_that_says_something_else(bake: Bake, tmp_path: Path) -> None:
    service = tmp_path / "service"
    shutil.copytree(bake(), service)
    for patch in load():
        before = {service / name: (service / name).read_bytes() for name in patch.touches}
        patch.apply(service)  # raises PatchInvalid
        for file, content in before.items():
            file.write_bytes(content)


def test_a_patch_that_leaves_no_python_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("a = 1\n")
    patch = _patch("SEC-01-0", "x.py", tmp_path)
    patch.file.write_text("diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a = 1\n+a = (1\n")
    with pytest.raises(PatchInvalid, match=r"SEC-01-0 leaves .* which is no Python"):
        patch.apply(tmp_path)


def test_a_touched_control_comes_first_and_whole_then_the_drawn_then_what_is_stale() -> None:
    tried = planned(PATCHES, STALE, {"SEC-02"}, every=20, lot="commit")
    assert [each.patch.control for each in tried[:10]] == ["SEC-02"] * 10
    assert {each.patch.control for each in tried[10:]} <= {"SEC-01", "AUT-01", "CST-01"}
    assert _why(tried) == sorted(_why(tried), key=["the change touches its control", "drawn", "stale"].index)
    stale = [each.patch.name for each in tried if each.patch.control == "AUT-01"]
    assert sorted(stale) == sorted(name for name in STALE if name.startswith("AUT-01"))
    assert len({each.patch.name for each in tried}) == len(tried)


def test_the_drawn_part_is_drawn_by_the_commit_and_no_time_limit_holds_for_it() -> None:
    draws = [planned(PATCHES, {}, set(), every=20, lot=f"commit {n}") for n in range(300)]
    assert {len(drawn) for drawn in draws} == {2}
    assert not any(each.bounded for drawn in draws for each in drawn)
    assert {each.patch.name for drawn in draws for each in drawn} == {patch.name for patch in PATCHES}
    assert draws[0] == planned(PATCHES, {}, set(), every=20, lot="commit 0")


def test_a_change_touches_the_controls_whose_code_patch_or_proof_it_changes(tmp_path: Path) -> None:
    source = tmp_path / "service"
    (source / "gates").mkdir(parents=True)
    control = '[[gate]]\n[[gate.control]]\nid = "TST-01"\nimplemented = ["app/implemented.py"]\n'
    (source / "gates" / "controls.toml").write_text(control)
    names = ("AUT-01-cut", "SEC-01-patch", "CST-01-proof", "ERR-01-other")
    patches = [_patch(name, f"app/{name[:3]}.py", tmp_path) for name in names]
    changed = {
        "service/app/AUT.py", "tests/sabotage/SEC-01-patch.patch", "service/gates/test_x.py",
        "service/app/implemented.py", "app/ERR.py", "docs/x.md",
    }  # fmt: skip
    stale = {"CST-01-proof": (PROOF,), "ERR-01-other": ("gates/rig/world.py",)}
    assert touched_controls(patches, stale, changed, source) == {"AUT-01", "SEC-01", "CST-01", "TST-01"}
    assert touched_controls(patches, {}, {"service/gates/test_x.py"}, source) == set()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sweep whose trials take a second of a clock of its own each, and whose service answers from `shown`."""
    monkeypatch.setattr(record, "FILE", tmp_path / "sabotage.json")
    made: Any = object.__new__(sweep._Sweep)
    made.workshop = made.project = tmp_path
    made.patches = [_patch(patch.name, folder=tmp_path) for patch in PATCHES]
    made.stale = dict(STALE)
    made.tried, made.verdicts, clock = [], {}, [0.0]

    def attempt(_project: Path, _workshop: Path, patches: Sequence[Patch]) -> Result:
        made.tried.append(patches[-1].name)
        clock[0] += 1
        return Result(patches[-1], made.verdicts.get(patches[-1].name, "caught"), 1, "", (PROOF,))

    def ask(_project: Path, code: str, given: Any = None) -> Any:
        return [f"key-{len(each)}" for each in given] if "harness_key" in code else [[{PROOF: "1"}, {}] for _ in given]

    monkeypatch.setattr(sweep, "attempt", attempt)
    monkeypatch.setattr(sweep, "JOBS", 1)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(record, "_ask", ask)
    monkeypatch.setattr(sweep._Sweep, "_planted", lambda _: True)
    monkeypatch.setattr(plan, "head", lambda: "commit")
    monkeypatch.setattr(plan, "changed_files", lambda _: {"tests/sabotage/SEC-02-0.patch"})
    return made


def _recorded(run: Any) -> set[str]:
    return {kill["patch"] for kill in json.loads((run.workshop / "sabotage.json").read_text())["kills"]}


def test_when_the_time_is_up_no_other_is_started_but_the_drawn_and_the_rest_is_listed(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.part(20, 3, "HEAD~1") == 0
    drawn = {each.patch.name for each in planned(run.patches, {}, set(), every=20, lot="commit")}
    assert run.tried[:4] == [name for name in run.tried if name.startswith("SEC-02")][:4], "the touched control first"
    assert drawn <= set(run.tried)
    assert len(run.tried) <= 4 + len(drawn)
    told = capsys.readouterr().out
    left = set(STALE) - set(run.tried)
    assert set(re.findall(r"stale (\S+) app/x\.py", told)) == left
    assert f"{len(left)} sabotages stay stale" in told
    assert _recorded(run) == set(run.tried)


def test_a_sweep_that_is_ended_half_way_has_recorded_what_it_tried(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        if len(run.tried) > KEPT_AFTER + 5:
            raise KeyboardInterrupt
        return attempt(*_)

    attempt = vars(sweep)["attempt"]
    monkeypatch.setattr(sweep, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.part(2, 0, "HEAD~1")
    assert len(_recorded(run)) == KEPT_AFTER


def test_what_was_never_tried_comes_before_what_is_only_old() -> None:
    patches = [_patch(f"AUT-01-{number}") for number in range(20)]
    stale = {patch.name: UNTRIED if number % 2 else ("app/x.py",) for number, patch in enumerate(patches)}
    others = [each.patch.name for each in planned(patches, stale, set(), every=20, lot="x") if each.why == "stale"]
    first = [tuple(stale[name]) == UNTRIED for name in others]
    assert first == sorted(first, reverse=True)
    assert sum(first) >= 9


@pytest.mark.parametrize(("verdict", "code"), [("SURVIVED", 1), ("WRONG REASON", 1), ("INVALID", 1), ("NOT JUDGED", 0)])
def test_what_survives_is_red_and_leaves_the_record_and_what_is_stale_is_not_red(
    run: Any, verdict: str, code: int
) -> None:
    run.verdicts["SEC-02-3"] = verdict
    assert run.part(20, 0, "HEAD~1") == code
    assert set(STALE) - _recorded(run) == {"SEC-02-3"}


def test_the_kills_of_what_was_not_tried_are_kept_and_those_of_patches_that_are_gone_are_not(tmp_path: Path) -> None:
    file = tmp_path / "sabotage.json"
    kept, gone, renewed = (_kill(name) for name in ("AUT-01-kept", "AUT-01-gone", "AUT-01-renewed"))
    file.write_text(json.dumps({"harnesses": {"old": {}}, "kills": [gone, kept, renewed]}))
    patches = [_patch("AUT-01-kept"), _patch("AUT-01-renewed", folder=tmp_path), _patch("AUT-01-lost")]
    answers = iter([[[{PROOF: "2"}, {"gates/rig/x.py": "3"}]], ["new"]])
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(record, "_ask", lambda *_: next(answers))
        caught = [Caught(patches[1], (PROOF,))]
        assert record.renew(tmp_path, caught, ["AUT-01-lost"], patches, file)
    after = json.loads(file.read_text())
    assert after["kills"][0] == kept
    assert after["kills"][1]["files"] == {PROOF: "2"}
    assert len(after["kills"]) == 2
    assert after["harnesses"] == {"new": {"gates/rig/x.py": "3"}, "old": {}}
    assert [path.name for path in tmp_path.glob("*.json")] == ["sabotage.json"]


def _kill(name: str) -> dict[str, Any]:
    return {"control": name[:6], "patch": name, "assertion": "holds", "proof": "test_x", "cut": "", "files": {},
            "harness": "old"}  # fmt: skip


def test_a_release_is_refused_while_anything_is_stale(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_ask", lambda *_: {"SEC-01": ""})
    assert run.release() == 1
    run.stale = {}
    assert run.release() == 0
    monkeypatch.setattr(record, "_ask", lambda *_: {"SEC-01": "no sabotage of it was tried"})
    assert run.release() == 1
    assert run.tried == []


GOOD: dict[str, Any] = {"status": "FAIL", "assertion": "holds", "positive": ["x"], "detail": "", "proof": PROOF}
LATE: dict[str, Any] = {
    "status": "ERROR",
    "assertion": None,
    "positive": [],
    "detail": "OutOfTime: not within 200 s",
    "proof": PROOF,
}


@pytest.mark.parametrize(
    ("records", "last_words", "judged"),
    [
        ([GOOD], "", "caught"),
        ([{**GOOD, "status": "PASS"}], "", "SURVIVED"),
        ([{**GOOD, "assertion": "other"}], "", "WRONG REASON"),
        ([{**GOOD, "positive": []}], "", "WRONG REASON"),
        ([{**LATE, "detail": "KeyError: x"}], "", "WRONG REASON"),
        ([LATE], "", "NOT JUDGED"),
        ([LATE, {**GOOD, "status": "PASS"}], "", "NOT JUDGED"),
        ([LATE, {**GOOD, "assertion": "other"}], "", "WRONG REASON"),
        ([], DID_NOT_END, "NOT JUDGED"),
        ([], "no tests ran", "WRONG REASON"),
    ],
)
def test_a_proof_that_had_no_time_judges_no_patch(records: Any, last_words: str, judged: str) -> None:
    assert verdict(replace(PATCHES[0]), records, last_words)[0] == judged
