"""The AI bill of materials of this code and configuration, as CycloneDX 1.6 JSON (ECMA-424). Gate: deployment.

It lists what decides how the service behaves beside its libraries: models with their retirement dates, prompts, tools,
policies. It holds nothing of the environment and no time, so the same source gives the same document.
Packages are in the other bill: `make sbom`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from app.config_files import ServiceIdentity, read_config
from app.entrypoints.release import agents_of
from app.gateway.catalog import DEFAULT_EMBEDDINGS, DEFAULT_TABLE, ModelEntry, ModelsFile
from app.gateway.routing import AUTO
from app.manifest import Feature
from app.policy.rules import Policy
from app.runs.agents import AgentSpec
from app.tools.servers import ToolServers
from app.tools.spec import ToolSpec

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
ROOT_REF = "service"
Part = dict[str, Any]


@dataclass(frozen=True)
class BillOfMaterials:
    service: ServiceIdentity
    models: tuple[Part, ...]
    prompts: tuple[Part, ...]
    policies: tuple[Part, ...]
    tools: tuple[Part, ...]
    uses: dict[str, list[str]]  # by reference of a prompt: models of its tier, tools, agents it may ask

    @classmethod
    def read(cls, service: ServiceIdentity, config: Path, features: Iterable[Feature]) -> "BillOfMaterials":
        """Raises SettingsInvalid, and ToolServersInvalid for a server whose tools nobody has reviewed."""
        declared = _with_defaults(read_config(config / "models.toml", ModelsFile))
        servers = ToolServers.load(config, {})
        agents = [pair for feature in features for pair in agents_of(feature)]
        tools = {tool["bom-ref"]: tool for _, agent in agents for tool in _tools(agent, servers)}
        uses = {
            f"prompt/{path}": sorted(
                [
                    *_models_of(agent.tier, declared),
                    *(tool["bom-ref"] for tool in _tools(agent, servers)),
                    *(f"prompt/{path}/{delegate.name}" for delegate in agent.delegates),
                ]
            )
            for path, agent in agents
        }
        return cls(
            service,
            models=tuple(_models(declared)),
            prompts=tuple(_prompt(path, agent) for path, agent in agents),
            policies=tuple(_policy(file) for file in sorted(config.glob("*.toml"))),
            tools=tuple(tools.values()),
            uses=uses,
        )

    def document(self) -> Part:
        """The whole bill. Its serial number follows from its content."""
        components = _sorted(*self.models, *self.prompts, *self.policies)
        services = _sorted(*self.tools)
        everything = [part["bom-ref"] for part in (*components, *services)]
        content: Part = {
            "$schema": SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": ROOT_REF,
                    "name": self.service.name,
                    "version": self.service.version,
                    "description": self.service.description,
                }
            },
            "components": components,
            "services": services,
            "dependencies": [
                {"ref": ROOT_REF, "dependsOn": everything},
                *({"ref": ref, "dependsOn": self.uses[ref]} for ref in sorted(self.uses)),
            ],
        }
        serial = uuid5(NAMESPACE_URL, json.dumps(content, sort_keys=True))
        return {**content, "serialNumber": f"urn:uuid:{serial}"}

    def rows(self) -> list[dict[str, Any]]:
        """For people: one row a part."""
        kinds = {"model": self.models, "prompt": self.prompts, "tool": self.tools, "policy": self.policies}
        return [
            {"kind": kind, "name": part["bom-ref"].partition("/")[2], "version": part.get("version", part["name"]),
             **{name: _property(part, f"app:{name}") for name in ("retires", "effect", "permission")}}
            for kind, parts in kinds.items() for part in parts
        ]  # fmt: skip


def _with_defaults(declared: ModelsFile) -> ModelsFile:
    """With the models that serve where the file says nothing of a provider."""
    providers, embeddings = DEFAULT_TABLE | declared.providers, DEFAULT_EMBEDDINGS | declared.embeddings
    return declared.model_copy(update={"providers": providers, "embeddings": embeddings})


def _models(declared: ModelsFile) -> Iterator[Part]:
    for provider, tiers in declared.providers.items():
        for tier, entry in tiers.items():
            yield _model(f"model/{provider}/{tier}", provider, tier, entry)
    for provider, names in declared.embeddings.items():
        for name, embedding in names.items():
            yield _model(f"model/{provider}/embeddings/{name}", provider, "embeddings", embedding.as_model(name))


def _model(ref: str, provider: str, tier: str, entry: ModelEntry) -> Part:
    told: dict[str, str | None] = {
        "app:provider": provider,
        "app:tier": tier,
        "app:retires": entry.retires.isoformat() if entry.retires else None,
    }
    told |= {"app:fallbacks": ", ".join(entry.fallbacks)}
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": entry.model,
        "supplier": {"name": provider},
        "properties": _properties(told),
    }


def _models_of(tier: str, declared: ModelsFile) -> list[str]:
    """References of the models that a tier may be answered by, of every provider: `auto` may be any of the order."""
    named = declared.names.get(tier, tier)
    wanted = declared.routing.order if named == AUTO else (named,)
    return [
        f"model/{provider}/{name}"
        for provider, tiers in declared.providers.items()
        for name in dict.fromkeys(rung for one in wanted if one in tiers for rung in (one, *tiers[one].fallbacks))
    ]


def _prompt(path: str, agent: AgentSpec) -> Part:
    return {
        "type": "data",
        "bom-ref": f"prompt/{path}",
        "name": agent.name,
        "version": agent.prompt_version,
        "hashes": _hashes(agent.instructions.encode()),
        "data": [{"type": "other", "name": "instructions"}],
        "properties": _properties({"app:tier": agent.tier}),
    }


def _policy(file: Path) -> Part:
    version = {"version": Policy.load(file).version} if file.name == "policy.toml" else {}
    return {
        "type": "data",
        "bom-ref": f"policy/{file.name}",
        "name": file.name,
        **version,
        "hashes": _hashes(file.read_bytes()),
        "data": [{"type": "configuration", "name": file.name}],
    }


def _tools(agent: AgentSpec, servers: ToolServers) -> Iterator[Part]:
    for tool in agent.tools:
        yield _tool(tool, {})
    for name in agent.servers:
        for tool in servers.specs(name):
            yield _tool(tool, {"app:server": name, "app:server-manifest-sha256": servers.pinned(name).digest})


def _tool(tool: ToolSpec, more: dict[str, str]) -> Part:
    """As a service: what it may reach, and the hash of all that is declared of it, the model's description included."""
    declared = {
        "description": tool.description,
        "effect": tool.effect,
        "permission": tool.permission,
        "arguments": tool.arguments.model_json_schema(),
        "result": tool.result.json_schema(),
        "destinations": tool.destinations,
        "idempotent": tool.idempotent,
        "timeout_s": tool.timeout.total_seconds(),
        "output_limit": tool.output_limit,
    }
    digest = hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()
    told = {"app:effect": str(tool.effect), "app:permission": tool.permission, "app:manifest-sha256": digest, **more}
    return {
        "bom-ref": f"tool/{tool.name}",
        "name": tool.name,
        "version": digest[:16],
        "description": tool.description,
        "endpoints": list(tool.destinations or ()),
        "x-trust-boundary": tool.goes_out,
        "properties": _properties(told),
    }


def _hashes(content: bytes) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def _properties(told: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in told.items() if value]


def _property(part: Part, name: str) -> str | None:
    return next((each["value"] for each in part.get("properties", ()) if each["name"] == name), None)


def _sorted(*parts: Part) -> list[Part]:
    return sorted(parts, key=lambda part: str(part["bom-ref"]))
