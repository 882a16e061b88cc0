"""The record of caught sabotage, gates/sabotage.json of the service: which kills are stale, and how it is renewed.

What a kill depends on is the service's own code to say (gates/sabotage.py there); it is asked in the rendered project,
so that a file edited while the sweep runs is not recorded as tried.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.sabotage.patches import Patch
from tests.sabotage.plan import SOURCE, UNTRIED

FILE = SOURCE / "gates" / "sabotage.json"
STALE = "from gates.sabotage import Kills; print(json.dumps(Kills.load().stale))"
DIGESTS = "from gates.sabotage import digests; print(json.dumps([digests(*each) for each in json.load(sys.stdin)]))"
UNPROVEN = (
    "from gates.catalogue import Catalogue; from gates.sabotage import Kills; kills = Kills.load();"
    "print(json.dumps({c.id: kills.uncaught(c.id) for c in Catalogue.load().controls.values() if c.assertions}))"
)


@dataclass(frozen=True)
class Caught:
    patch: Patch
    proofs: tuple[str, ...]  # `file::test` of those that noticed


def stale(project: Path, patches: Sequence[Patch]) -> dict[str, tuple[str, ...]]:
    """Each patch that is not shown as caught on the code of `project`, with what changed since."""
    cuts = {kill["patch"]: kill["cut"] for kill in _load(project / "gates" / FILE.name)["kills"]}
    changed: dict[str, Sequence[str]] = _ask(project, STALE)
    found: dict[str, tuple[str, ...]] = {}
    for patch in patches:
        if patch.name not in cuts:
            found[patch.name] = UNTRIED
        elif cuts[patch.name] != patch.sha256:
            found[patch.name] = ("(the patch)",)
        elif patch.name in changed:
            found[patch.name] = tuple(changed[patch.name])
    return found


def unproven(project: Path) -> dict[str, str]:
    """The proven controls whose sabotage is not shown as caught, with the reason that the scorecard gives."""
    return {control: why for control, why in _ask(project, UNPROVEN).items() if why}


def renew(
    project: Path, caught: Sequence[Caught], lost: Sequence[str], patches: Sequence[Patch], record: Path | None = None
) -> bool:
    """Put these kills into the record; take out `lost`, and patches that are gone. Returns whether it changed.

    It is read again first: another sweep of the same folder may have renewed others meanwhile."""
    record = record or FILE
    before = _load(record)
    shown = _ask(project, DIGESTS, [(each.patch.touches, each.proofs) for each in caught])
    key = "from gates.sabotage import harness_key; print(json.dumps([harness_key(h) for h in json.load(sys.stdin)]))"
    keys = _ask(project, key, [harness for _, harness in shown])
    new = {
        each.patch.name: _kill(each.patch, files, name)
        for each, (files, _), name in zip(caught, shown, keys, strict=True)
    }
    known = {patch.name for patch in patches}
    old = {kill["patch"]: kill for kill in before["kills"] if kill["patch"] in known and kill["patch"] not in lost}
    kills = [kill for _, kill in sorted((old | new).items())]
    harnesses = before["harnesses"] | {name: harness for name, (_, harness) in zip(keys, shown, strict=True)}
    needed = {kill["harness"] for kill in kills}
    after = {"harnesses": {name: harnesses[name] for name in sorted(needed)}, "kills": kills}
    if after == before:
        return False
    # In one step, for the reader and the other sweep.
    file = record.with_name(f".{record.name}.{uuid4().hex}")
    file.write_text(json.dumps(after, indent=1) + "\n")
    file.replace(record)
    return True


def _kill(patch: Patch, files: Mapping[str, str], harness: str) -> dict[str, Any]:
    head = {"control": patch.control, "patch": patch.name, "assertion": patch.assertion, "proof": patch.proof}
    return {**head, "cut": patch.sha256, "files": dict(files), "harness": harness}


def _load(record: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"harnesses": {}, "kills": []}
    return json.loads(record.read_text()) if record.exists() else empty


def _ask(project: Path, code: str, given: object = None) -> Any:
    """What the service's own code answers, in the environment and on the files of `project`."""
    command = [str(project / ".venv/bin/python"), "-c", f"import json, sys; {code}"]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(
        command, cwd=project, env=environment, input=json.dumps(given), check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)
