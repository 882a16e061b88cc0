"""A policy decision is a value with its reason: Allow, Deny or AskHuman."""

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What a tool does to the world. A read whose destination the model chooses is EXTERNAL_POST."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    EXTERNAL_POST = "external_post"


@dataclass(frozen=True)
class Allow:
    rule: str
    reason: str


@dataclass(frozen=True)
class Deny:
    rule: str
    reason: str


@dataclass(frozen=True)
class AskHuman:
    rule: str
    reason: str


Decision = Allow | Deny | AskHuman
