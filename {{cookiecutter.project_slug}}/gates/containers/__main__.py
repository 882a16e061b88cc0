"""`make test-containers`: build the image twice and look into it, at rest and running. Needs docker or podman.

Evidence of DEP-10: what is found is kept with the code it is about (gates/suites.py). Without an engine nothing is
kept, and the scorecard says that the control was not assessed here. After the checks each is shown an image that is
wrong in its own way and must say so: a check that cannot fail would show nothing.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from gates import subject, suites
from gates.containers import checks
from gates.containers.checks import Check
from gates.containers.engine import Engine, EngineFailed, EngineMissing
from gates.containers.sources import commit, prepared
from gates.rig.canaries import Canaries

NO_PROXY_TAKEN = "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/livez', timeout=2)"
Wrong = dict[str, tuple[str, str]]  # by what is wrong: the lines of a Dockerfile that do it, and the check that notices


@dataclass
class Report:
    failed: list[str] = field(default_factory=list)
    checked: int = 0

    def check(self, what: str, look: Check) -> None:
        """Print what was found; an engine that fails at it counts as a fault."""
        self.checked += 1
        try:
            problems = list(look())
        except EngineFailed as error:
            problems = [str(error)]
        self._tell(what, problems)

    def must_notice(self, what: str, look: Check) -> None:
        self.checked += 1
        found = next(iter(look()), "")
        self._tell(f"wrong on purpose, and noticed: {what}", [] if found else ["nothing was noticed"])

    def _tell(self, what: str, problems: list[str]) -> None:
        print(f"  {'✘' if problems else '✔'} {what}", flush=True)
        for problem in problems[:10]:
            print(f"      {problem}", flush=True)
        self.failed += [f"{what}: {problem}" for problem in problems[:10]]


def main(
    build: Annotated[
        list[str] | None, typer.Option(help="Another option of the build: --build=--network=host.")
    ] = None,
    keep: Annotated[bool, typer.Option(help="Leave the images there.")] = False,
) -> None:
    """Build, look, run; exit 1 where something is wrong, 2 where no engine works here."""
    try:
        engine = Engine.find(build or ())
    except EngineMissing as error:
        print(f"test-containers: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    name = f"gates-{uuid4().hex[:8]}"
    report, code = Report(), subject.current()
    with tempfile.TemporaryDirectory(prefix="containers-") as folder:
        try:
            _examine(engine, name, Path(folder), report)
        except EngineFailed as error:
            report.failed.append(str(error))
            print(f"  ✘ {error}")
        finally:
            if not keep:
                engine.run("rmi", "--force", f"{name}:first", f"{name}:second", *_tags(name))
    # Complete only if the code is still that which was built: what is kept says of which code it is.
    suites.keep(
        suites.CONTAINERS, ok=not report.failed, complete=subject.current() == code, checked=report.checked,
        failed=report.failed, engine=engine.program,
    )  # fmt: skip
    print(f"{'BROKEN' if report.failed else 'HOLDS'}: {report.checked} checks, {len(report.failed)} faults")
    raise SystemExit(1 if report.failed else 0)


def _examine(engine: Engine, name: str, folder: Path, report: Report) -> None:
    image, source = f"{name}:first", commit()
    label = f"--build-arg=SOURCE_COMMIT={source}"
    first, values = prepared(folder / "first", 0o022)
    second, _ = prepared(folder / "second", 0o077)
    print(f"test-containers: {engine.program} builds the image twice, the second time under umask 077", flush=True)
    engine.build(first, image, label)
    engine.build(second, f"{name}:second", label, "--no-cache")
    found, again = checks.files(engine, image), checks.files(engine, f"{name}:second")
    canaries = Canaries(values)
    report.check(f"{len(found)} files are the same in both builds", lambda: checks.reproduced(found, again))
    report.check("everybody reads its code, root alone writes it", lambda: checks.modes(found))
    report.check("under umask 077 as well", lambda: checks.modes(again))
    report.check("user, health check, label, environment", lambda: checks.configuration(engine, image, source))
    report.check("no secret in a layer or in the history", lambda: checks.secrets(engine, image, canaries))
    report.check("unhealthy where nothing serves", lambda: checks.health_fails_when_nothing_serves(engine, image))
    report.check(
        "hardened and behind a proxy: serves, healthy, powerless", lambda: checks.running(engine, image, source)
    )
    for tag, lines, look in _wrong(engine, name, source, canaries, found):
        wrong = folder / tag
        wrong.mkdir()
        (wrong / "secret").write_text(next(iter(values.values())))
        (wrong / "Dockerfile").write_text(f"FROM {image}\n{lines}\n")
        engine.build(wrong, f"{name}:{tag}")
        report.must_notice(tag, look)


def _tags(name: str) -> list[str]:
    tags = ("root", "writable", "unreadable", "secret", "unhealthy", "proxied", "package", "label", "changed")
    return [f"{name}:{tag}" for tag in tags]


def _wrong(
    engine: Engine, name: str, source: str, canaries: Canaries, found: checks.Files
) -> Iterator[tuple[str, str, Check]]:
    """Images that are wrong, each with the check that must notice."""

    def at(tag: str) -> str:
        return f"{name}:{tag}"

    place = "/app/.venv/lib/python3.11/site-packages/odd-1.dist-info"
    package = f"USER 0\nRUN mkdir {place} && printf 'Name: odd\\nVersion: 1\\n' > {place}/METADATA\nUSER 10001:10001"
    always = 'HEALTHCHECK CMD ["true"]'
    proxied = f'HEALTHCHECK --interval=2s CMD ["python", "-c", "{NO_PROXY_TAKEN}"]'
    deleted = "USER 0\nCOPY secret /app/secret\nRUN rm /app/secret\nUSER 10001:10001"
    yield "root", "USER 0", lambda: checks.running(engine, at("root"), source)
    yield (
        "label",
        "LABEL org.opencontainers.image.revision=other",
        lambda: checks.configuration(engine, at("label"), source),
    )
    yield (
        "writable",
        "USER 0\nRUN chmod g+w /app/app/settings.py",
        lambda: checks.modes(checks.files(engine, at("writable"))),
    )
    yield "unreadable", "USER 0\nRUN chmod go= /app/app", lambda: checks.modes(checks.files(engine, at("unreadable")))
    yield (
        "changed",
        "USER 0\nRUN echo >> /app/app/settings.py",
        lambda: checks.reproduced(found, checks.files(engine, at("changed"))),
    )
    yield "secret", deleted, lambda: checks.secrets(engine, at("secret"), canaries)
    yield "unhealthy", always, lambda: checks.health_fails_when_nothing_serves(engine, at("unhealthy"))
    yield "package", package, lambda: checks.running(engine, at("package"), source)
    yield "proxied", proxied, lambda: checks.running(engine, at("proxied"), source)


if __name__ == "__main__":
    typer.run(main)
