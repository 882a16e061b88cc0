"""The service's processes as its compose files start them: the same commands and environments, without containers."""

import re
from pathlib import Path
from typing import Any

import yaml

from app.settings import ROOT

FILES = ("compose.yaml", "deploy/compose/production.yaml")  # the second only where one machine is what was chosen
_VALUE = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")


class Composed:
    """`given` stands in for the shell's environment that Docker Compose would read. Raises KeyError for a value that a
    file demands and nobody gave."""

    def __init__(self, given: dict[str, str], root: Path = ROOT) -> None:
        self._given = given
        self.services: dict[str, dict[str, Any]] = {}
        for file in (root / name for name in FILES):
            if file.exists():
                self._merge(yaml.safe_load(file.read_text(encoding="utf-8"))["services"])

    def _merge(self, services: dict[str, dict[str, Any]]) -> None:
        for name, declared in services.items():
            service = self.services.setdefault(name, {})
            environment = {**service.get("environment", {}), **declared.get("environment", {})}
            service.update({**declared, "environment": environment})

    def environment(self, service: str) -> dict[str, str]:
        return {name: self._filled(str(value)) for name, value in self.services[service]["environment"].items()}

    def command(self, service: str) -> list[str]:
        return [str(word) for word in self.services[service]["command"]]

    def published(self, service: str) -> list[str]:
        """Ports inside the container that are reachable from outside."""
        return [str(port).rpartition(":")[2] for port in self.services[service].get("ports", [])]

    def _filled(self, value: str) -> str:
        def fill(match: re.Match[str]) -> str:
            name, how, rest = match.groups()
            if name in self._given:
                return self._given[name]
            if how == "-":
                return str(rest)
            raise KeyError(name)

        return _VALUE.sub(fill, value)
