"""The AI bill of materials is valid CycloneDX, complete, and the same for the same source."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from app.entrypoints.bill_of_materials import BillOfMaterials
from app.features import FEATURES
from app.runs.agents import AgentSpec
from app.settings import ROOT, load_settings
from app.tools.pinned import Manifest, ToolServersInvalid
from app.tools.servers import ToolServers
from gates.rig.hazard import FEATURE as HAZARD
from gates.rig.probe import FEATURE as PROBE

SERVER = """
[servers.crm]
url = "https://mcp.example.com/mcp"
[servers.crm.tools.find_contact]
effect = "write"
permission = "contacts:read"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "config", tmp_path / "config"))


def _document(config: Path, *features: Any) -> dict[str, Any]:
    service = load_settings().service
    return BillOfMaterials.read(service, config, features or FEATURES).document()


def _part(document: dict[str, Any], ref: str) -> dict[str, Any]:
    [part] = [each for each in [*document["components"], *document["services"]] if each["bom-ref"] == ref]
    properties = {each["name"].removeprefix("app:"): each["value"] for each in part.get("properties", ())}
    return {**part, **properties}


def _require_valid(document: dict[str, Any]) -> None:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))
    assert problem is None, problem


def test_it_is_valid_and_the_check_can_fail(config: Path) -> None:
    document = _document(config)
    _require_valid(document)
    document["components"][0]["type"] = "model"
    with pytest.raises(AssertionError):
        _require_valid(document)


def test_it_has_models_with_their_dates_prompts_tools_and_policies(config: Path) -> None:
    file = config / "models.toml"
    text = file.read_text().replace('{ model = "gpt-5-mini",', '{ model = "gpt-5-mini", retires = 2027-01-31,')
    file.write_text(text.replace('"gemini-embedding-001" = {}', '"gemini-embedding-001" = { retires = 2027-02-28 }'))
    document = _document(config, HAZARD)
    _require_valid(document)
    assert _part(document, "model/openai/standard")["retires"] == "2027-01-31"
    assert _part(document, "model/google/embeddings/gemini-embedding-001")["retires"] == "2027-02-28"
    assert "retires" not in _part(document, "model/openai/small")
    assert _part(document, "prompt/hazard")["version"] == HAZARD.agent.prompt_version
    tools = {tool.name: str(tool.effect) for tool in HAZARD.tools}
    assert {name: _part(document, f"tool/{name}")["effect"] for name in tools} == tools
    files = {file.name for file in config.glob("*.toml")}
    assert {f"policy/{name}" for name in files} <= {each["bom-ref"] for each in document["components"]}


def test_it_says_what_each_prompt_may_use(config: Path) -> None:
    reader = AgentSpec("reader", "Read.", HAZARD.agent.output_type, tier="auto", tools=HAZARD.agent.tools[:1])
    agent = replace(HAZARD.agent, delegates=(reader,), servers=("crm",))
    (config / "tools.toml").write_text(SERVER)
    servers = ToolServers.load(config, {})
    said = {"description": "Finds.", "schema": {"type": "object", "properties": {}}, "result": {}}
    with pytest.raises(ToolServersInvalid, match="not reviewed yet"):
        _document(config, replace(HAZARD, agent=agent))
    servers.pin("crm", Manifest({"find_contact": said}))
    document = _document(config, replace(HAZARD, agent=agent))
    _require_valid(document)
    uses = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert {"prompt/hazard/reader", "tool/crm_find_contact", "model/openai/standard"} <= set(uses["prompt/hazard"])
    assert {"model/openai/small", "model/openai/large"} <= set(uses["prompt/hazard/reader"])
    assert _part(document, "tool/crm_find_contact")["server-manifest-sha256"] == servers.pinned("crm").digest
    assert _part(document, "tool/crm_find_contact")["x-trust-boundary"] is True


def _reprice(config: Path) -> None:
    file = config / "models.toml"
    file.write_text(file.read_text().replace('"0.25"', '"0.26"'))


def test_the_same_source_gives_the_same_bill_and_a_change_another(config: Path) -> None:
    feature = PROBE
    first = _document(config, feature)
    assert _document(config, feature) == first == _document(ROOT / "config", feature)
    _reprice(config)
    second = _document(config, feature)
    assert second["serialNumber"] != first["serialNumber"]
    assert _part(second, "policy/models.toml")["hashes"] != _part(first, "policy/models.toml")["hashes"]
    tool = feature.agent.tools[0]
    changes: list[Callable[[], AgentSpec]] = [
        lambda: replace(feature.agent, instructions="Obey."),
        lambda: replace(feature.agent, tools=(replace(tool, description="Obey."), *feature.agent.tools[1:])),
        lambda: replace(feature.agent, tools=(replace(tool, permission="all:all"), *feature.agent.tools[1:])),
    ]
    serials = {_document(config, replace(feature, agent=change()))["serialNumber"] for change in changes}
    assert len(serials - {second["serialNumber"]}) == len(changes)
