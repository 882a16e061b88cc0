"""`make sbom`: the bill of materials of what is installed, as CycloneDX 1.6, and the check that it is just that.

`python -m scripts.sbom OUT PYTHON` writes the bill of the environment of PYTHON with cyclonedx-py, reproducibly (no
time, no random number), compares it with what that environment holds by its own metadata, and looks for `.pth` files,
whose lines Python runs at every start without an import. Exit 1 where they differ, one sentence for each difference.

Gate: security.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = """
import json, site, sys
from importlib.metadata import distributions
found = [[each.metadata["Name"], each.version] for each in distributions(path=site.getsitepackages())]
print(json.dumps({"installed": found, "folders": site.getsitepackages()}))
"""
# Each with what it is for; the service's own is a folder and nothing else, and is looked at for that.
KNOWN_PTH = {
    "_virtualenv.pth": "of virtualenv",
    "distutils-precedence.pth": "of setuptools",
}
Packages = set[tuple[str, str]]


def write(out: Path, python: str, *, validate: bool = True) -> None:
    """Raises subprocess.CalledProcessError."""
    command = [
        sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--sv", "1.6", "--of", "JSON",
        "--pyproject", str(ROOT / "pyproject.toml"), "-o", str(out),
        "--validate" if validate else "--no-validate", python,
    ]  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True, capture_output=True, text=True)


def listed(bill: dict[str, Any]) -> Packages:
    """The packages of a bill, the service itself among them."""
    parts = [*bill.get("components", ()), bill["metadata"]["component"]]
    return {(_normal(each["name"]), each.get("version", "")) for each in parts}


def installed(python: str) -> tuple[Packages, list[Path]]:
    """What the environment holds by its own metadata, and those of its folders that are there: Debian's names more."""
    # -I: nothing of the current folder or of the caller's environment is taken for a part of it.
    done = subprocess.run([python, "-I", "-c", INSTALLED], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    folders = [Path(each) for each in told["folders"] if Path(each).is_dir()]
    return {(_normal(name), version) for name, version in told["installed"]}, folders


def differences(bill: dict[str, Any], packages: Packages) -> Iterator[str]:
    """One sentence for each package that stands in one of them alone."""
    in_bill = listed(bill)
    for name, version in sorted(packages - in_bill):
        yield f"{name} {version} is installed and not in the bill"
    for name, version in sorted(in_bill - packages):
        yield f"{name} {version} is in the bill and not installed"


def unexpected_pth(folders: list[Path]) -> Iterator[str]:
    """One sentence for each `.pth` file that is not known: code in it runs at every start of Python."""
    for file in sorted(file for folder in folders for file in folder.glob("*.pth")):
        if file.name not in KNOWN_PTH and not _is_path_of_the_service(file):
            yield f"{file.name} is a .pth file that nobody expects: Python runs its lines at every start"


def _is_path_of_the_service(file: Path) -> bool:
    """Whether it is the editable installation of this service: one line, the folder of a project of this name."""
    lines = file.read_text(encoding="utf-8").splitlines()
    project = Path(lines[0]) / "pyproject.toml" if len(lines) == 1 else Path()
    return project.is_file() and _name(project) == _name(ROOT / "pyproject.toml")


def _name(project: Path) -> str:
    name: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"]
    return name


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")  # PEP 503, as far as names have one separator at a time


def main(out: str, python: str) -> int:
    try:
        write(Path(out), python)
    except subprocess.CalledProcessError as error:
        print(f"sbom: the bill could not be written: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return 2
    packages, folders = installed(python)
    problems = [*differences(json.loads(Path(out).read_text(encoding="utf-8")), packages), *unexpected_pth(folders)]
    for problem in problems:
        print(f"sbom: {problem}", file=sys.stderr)
    if not problems:
        print(f"sbom: {out}: {len(packages)} packages, as installed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
