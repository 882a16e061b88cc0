"""What a proof rests on: the definitions it reaches in the files of proofs, and the modules of gates/ it imports.

A proof's own file, conftest.py and other files of proofs count by the definition, because they grow by what others add
to them. Every other module below gates/ counts whole, with all that it imports (grimp's import graph). A fixture counts
as used by the proof that names it as a parameter. conftest.py, plugin.py and proof.py belong to every proof. What of a
Python file counts is what runs: not its comments and docstrings.
"""

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import grimp

from gates.catalogue import ROOT
from gates.definitions import ALWAYS, Definitions, runs

CONFTEST = "gates.conftest"
EVERY_PROOF = (CONFTEST, "gates.plugin", "gates.proof")
HARNESS = "gates.rig."  # of what the plugin imports, only the harness has a part in what a proof sees


class ProofUnknown(Exception):
    """A proof that is not there; the message names it."""


@dataclass
class _Reached:
    """What a walk over the definitions has found."""

    segments: dict[tuple[str, str], str] = field(default_factory=dict)  # (module, name): its source
    modules: set[str] = field(default_factory=set)


@cache
def digests(proof: str) -> dict[str, str]:
    """What `proof` (`gates/test_10_cost.py::test_x`) rests on, each path with a digest; the proof's own under its name.

    Raises ProofUnknown where there is no such test."""
    file, _, function = proof.partition("::")
    module = _module(file)
    if not (ROOT / file).is_file() or function not in _definitions(module).fixtures:
        raise ProofUnknown(f"there is no proof {proof}")
    reached = _Reached()
    for name in (function, ALWAYS):
        _follow(module, name, reached)
    _follow(CONFTEST, ALWAYS, reached)
    own = "\0".join(f"{key}\n{text}" for key, text in sorted(reached.segments.items()) if key[0] != CONFTEST)
    files = {_path(name) for name in {*EVERY_PROOF, *_harness_of_every_proof(), *_with_imports(reached.modules)}}
    return {proof: short(own.encode()), **{name: file_digest(name) for name in sorted(files)}}


def short(content: bytes) -> str:
    """A digest that is long enough to tell versions apart; nothing here defends against a forger."""
    return hashlib.sha256(content).hexdigest()[:16]


@cache
def file_digest(name: str) -> str:
    """The digest of a file of this folder, of Python what runs; empty where it is not there."""
    file = ROOT / name
    if not file.is_file():
        return ""
    content = file.read_bytes()
    with suppress(SyntaxError, UnicodeDecodeError):
        content = runs(content.decode()).encode() if file.suffix == ".py" else content
    return short(content)


def _follow(module: str, name: str, reached: _Reached) -> None:
    definitions = _definitions(module)
    if (module, name) in reached.segments:
        return
    reached.segments[module, name], mentioned = _definition(module, name)
    for used in mentioned:
        if used in definitions.imports:
            reached.segments[module, used] = ".".join(definitions.imports[used])
            _import(*definitions.imports[used], reached)
        elif used in definitions.statements:
            _follow(module, used, reached)
        elif used in _definitions(CONFTEST).fixtures:
            _follow(CONFTEST, used, reached)
        else:
            reached.modules |= {plugin for plugin in _definitions(CONFTEST).plugins if used in _fixtures(plugin)}


def _import(module: str, name: str, reached: _Reached) -> None:
    known = _modules()
    if f"{module}.{name}" in known:
        reached.modules.add(f"{module}.{name}")
    elif name and _holds_proofs(module) and name in _definitions(module).statements:
        _follow(module, name, reached)
        _follow(module, ALWAYS, reached)
    elif name and _holds_proofs(module) and name in _definitions(module).imports:
        _import(*_definitions(module).imports[name], reached)
    elif module in known:
        reached.modules.add(module)


def _with_imports(modules: Iterable[str]) -> set[str]:
    return {each for module in modules for each in (module, *_imports_of(module))}


@cache
def _imports_of(module: str) -> frozenset[str]:
    return frozenset(_graph().find_upstream_modules(module))


@cache
def _harness_of_every_proof() -> frozenset[str]:
    return frozenset(module for module in _imports_of("gates.plugin") if module.startswith(HARNESS))


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("gates", cache_dir=None)


@cache
def _modules() -> frozenset[str]:
    return frozenset(_graph().modules)


@cache
def _definitions(module: str) -> Definitions:
    return Definitions.load(ROOT / _path(module))


@cache
def _definition(module: str, name: str) -> tuple[str, frozenset[str]]:
    found = _definitions(module)
    return found.segment(name), frozenset(found.used_by(name))


@cache
def _fixtures(module: str) -> set[str]:
    return _definitions(module).fixtures


def _holds_proofs(module: str) -> bool:
    return module == CONFTEST or module.startswith("gates.test_")


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def _path(module: str) -> str:
    path = Path(*module.split("."))
    return (path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")).as_posix()
