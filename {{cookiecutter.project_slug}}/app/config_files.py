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
    except (ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        lines = reasons(error)
    raise SettingsInvalid(f"{path.parent.name}/{path.name} cannot be used:\n  " + "\n  ".join(lines))


def read_toml(path: Path, model: type[File], wanted: str) -> File:
    """A file that has to be there. Raises SettingsInvalid, which says that it is no `wanted`, and why."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # what TOML, UTF-8 and the model find wrong are each a ValueError
        lines = reasons(error)
    raise SettingsInvalid(f"{path} is no {wanted}:\n  " + "\n  ".join(lines))


def reasons(error: Exception) -> list[str]:
    """Why a file cannot be used, a line each; of a model's findings the place and what it must be, never the value."""
    if not isinstance(error, ValidationError):
        return [str(error)]
    issues = error.errors(include_input=False, include_url=False)
    return [f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in issues]
