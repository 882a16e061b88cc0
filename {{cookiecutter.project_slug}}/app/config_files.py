"""Reading the files of CONFIG_DIR and what the project says of itself. Gate: deployment."""

import tomllib
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ValidationError

File = TypeVar("File", bound=BaseModel)


class SettingsInvalid(Exception):
    """The environment cannot run this service; the message lists each key and what it must be."""


class ServiceIdentity:
    """Name and version of this service, from pyproject.toml: written once, used everywhere."""

    def __init__(self, name: str, version: str, description: str) -> None:
        self.name, self.version, self.description = name, version, description

    @classmethod
    def read(cls, path: Path) -> Self:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        return cls(project["name"], project["version"], project["description"])


def read_config(path: Path, model: type[File]) -> File:
    """A file of CONFIG_DIR, or its defaults where there is none. Raises SettingsInvalid naming what cannot be used."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {})
    except ValidationError as error:
        issues = error.errors(include_input=False, include_url=False)
        lines = [f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in issues]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        lines = [str(error)]
    raise SettingsInvalid(f"{path.parent.name}/{path.name} cannot be used:\n  " + "\n  ".join(lines))
