"""The patches: each cuts one control out of a copy of a rendered service and names the assertion that must notice.

They live in the template and not in the service, which has no switch that turns a control off.
"""

import ast
import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PLANTED = FOLDER / "planted"
_HEAD = re.compile(
    r"Control: (?P<control>[A-Z]{3}-\d\d)\nAssertion: (?P<assertion>[a-z-]+)\n"
    r"Proof: (?P<proof>test_\w+)\nCuts: (?P<cuts>.+)\n"
)


class PatchInvalid(Exception):  # noqa: N818 - an error's name is its meaning
    """A patch that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Patch:
    file: Path
    control: str
    assertion: str
    proof: str
    cuts: str
    sha256: str  # of the whole file, as it was read

    @property
    def name(self) -> str:
        return self.file.stem

    @property
    def touches(self) -> list[str]:
        return re.findall(r"^\+\+\+ b/(.+)$", self.file.read_text(), re.MULTILINE)

    def apply(self, project: Path) -> None:
        """Change the project. Raises PatchInvalid when it does not apply, or changes nothing that runs."""
        before = [_meaning(project / name) for name in self.touches]
        command = ["git", "apply", "--unsafe-paths", f"--directory={project}", str(self.file)]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PatchInvalid(f"{self.name} does not apply any more: {done.stderr.strip().splitlines()[0]}")
        try:
            after = [_meaning(project / name) for name in self.touches]
        except SyntaxError as error:
            raise PatchInvalid(f"{self.name} leaves {error.text!r:.80}, which is no Python") from None
        if not self.touches or before == after:
            raise PatchInvalid(f"{self.name} changes nothing that runs")


def load(folder: Path = FOLDER) -> list[Patch]:
    """Every patch of the folder, by name. Raises PatchInvalid for one without its head."""
    found = []
    for file in sorted(folder.glob("*.patch")):
        head = _HEAD.match(file.read_text())
        if head is None or not file.name.startswith(f"{head['control']}-"):
            raise PatchInvalid(
                f"{file.name} needs the lines Control, Assertion, Proof and Cuts, and the control in its name"
            )
        found.append(Patch(file, **head.groupdict(), sha256=hashlib.sha256(file.read_bytes()).hexdigest()))
    return found


def chosen(patches: Sequence[Patch], wanted: str) -> list[Patch]:
    """The patches of a control such as SEC-02, or one by its name. Raises PatchInvalid naming what there is."""
    found = [patch for patch in patches if not wanted or wanted in {patch.control, patch.name}]
    if not found:
        known = ", ".join(dict.fromkeys(patch.control for patch in patches))
        raise PatchInvalid(f"no patch for {wanted}: choose from {known}")
    return found


def _meaning(file: Path) -> str:
    """What of a file runs: of Python its syntax tree without positions and docstrings, of others the text."""
    if file.suffix != ".py":
        return file.read_text()
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0].value.value = ""
    return ast.dump(tree)
