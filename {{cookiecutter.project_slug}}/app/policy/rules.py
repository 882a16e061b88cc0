"""The policy: an ordered table from config/policy.toml, first match wins, default deny.

The file can widen what an untainted run may do alone. It cannot widen a tainted one: that rule is
code, because no configuration should be able to turn it off. Gate: security.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.config_files import read_config
from app.identity.principal import Principal
from app.policy.decision import Allow, AskHuman, Decision, Deny, Effect
from app.policy.taint import Taint


class Rule(BaseModel):
    """One line of the table; a field left out matches everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    decision: Literal["allow", "ask", "deny"]
    effects: tuple[Effect, ...] = ()
    tools: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    reason: str = Field(max_length=200)

    def matches(self, principal: Principal, tool: str, effect: Effect) -> bool:
        return (
            (not self.effects or effect in self.effects)
            and (not self.tools or tool in self.tools)
            and (not self.roles or bool(principal.roles & set(self.roles)))
        )


DEFAULT_RULES = (
    Rule(id="reads", decision="allow", effects=(Effect.READ,), reason="reading changes nothing"),
    Rule(
        id="side-effects",
        decision="ask",
        effects=(Effect.WRITE, Effect.DELETE, Effect.EXTERNAL_POST),
        reason="what changes something needs a person's approval",
    ),
)


class PolicyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rule: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class ToolRequest:
    """What policy may look at: the tool as declared, never the model's description of it."""

    tool: str
    effect: Effect
    permission: str


@dataclass(frozen=True)
class Policy:
    rules: tuple[Rule, ...]
    version: str  # changes with the rules; an approval given under another version is void

    @classmethod
    def load(cls, path: Path) -> "Policy":
        return cls.of(read_config(path, PolicyFile).rule or DEFAULT_RULES)

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> "Policy":
        digest = hashlib.sha256("\n".join(rule.model_dump_json() for rule in rules).encode())
        return cls(rules, digest.hexdigest()[:16])

    def decide(self, principal: Principal, request: ToolRequest, taint: Taint) -> Decision:
        """Decide one tool call. The caller's permission comes first, then the table, then taint."""
        if not principal.can(request.permission):
            return Deny("permission", f"{request.permission} is needed")
        rule = next((r for r in self.rules if r.matches(principal, request.tool, request.effect)), None)
        if rule is None:
            return Deny("default-deny", "no rule allows this")
        match rule.decision:
            case "deny":
                return Deny(rule.id, rule.reason)
            case "ask":
                return AskHuman(rule.id, rule.reason)
            case "allow":
                return self._unless_tainted(rule, request.effect, taint)

    @staticmethod
    def _unless_tainted(rule: Rule, effect: Effect, taint: Taint) -> Decision:
        if taint and effect is not Effect.READ:
            return AskHuman("tainted", f"the run has read untrusted content ({taint})")
        return Allow(rule.id, rule.reason)
