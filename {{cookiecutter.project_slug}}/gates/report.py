"""The scorecard as files: JSON for machines, one self-contained HTML page, a badge."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from app.settings import load_settings
from gates.catalogue import FOLDER
from gates.configuration import four_eyes_rule
from gates.evidence import FILE
from gates.scorecard import LEVELS, Decision, GateScore, Scorecard, Verdict

COLOURS: dict[Decision, str] = {
    "GO": "#1b6e3c", "CONDITIONAL": "#8a5300", "PAUSED": "#b3261e", "CANNOT JUDGE": "#5b3a8c",
}  # fmt: skip


def write(card: Scorecard, folder: Path = FILE.parent) -> Sequence[Path]:
    """Write scorecard.json, scorecard.html and badge.svg; returns their paths."""
    folder.mkdir(exist_ok=True)
    part = "part-" if card.restricted else ""  # some gates only: the page of all ten stays as it is
    contents = {
        f"{part}scorecard.html": html(card),
        f"{part}scorecard.json": json.dumps(as_json(card), indent=1, ensure_ascii=False) + "\n",
        f"{part}badge.svg": badge(card),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def as_json(card: Scorecard) -> dict[str, Any]:
    return {
        "decision": card.decision,
        "reason": card.reason,
        "restricted": card.restricted,
        "at": card.at.isoformat(timespec="seconds"),
        "subject": card.subject.as_dict(),
        "four_eyes_rule": four_eyes_rule(),
        "counts": counts(card),
        "gates": [_gate(score) for score in card.gates],
        "attestations_refused": dict(card.refused),
    }


def _gate(score: GateScore) -> dict[str, Any]:
    return {
        "id": score.gate.id,
        "name": score.gate.name,
        "level": score.level,
        "minimum": score.gate.minimum,
        "passes": score.passes,
        "waived_until": score.waived_until or None,
        "missing": [{"id": name, "why": why} for name, why in score.missing],
        "not_proven": score.gate.unproven,
        "controls": [_control(verdict) for verdict in score.verdicts],
        "attestations": [
            {"id": w.statement.id, "state": w.state, "reason": w.reason, "who": w.who} for w in score.words
        ],
    }


def _control(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.control.id,
        "weight": verdict.control.weight,
        "state": verdict.state,
        "reason": verdict.reason,
        "cases": verdict.cases,
        "sabotage": verdict.uncaught or "caught",
        "proofs": [
            {"proof": r.proof, "status": r.status, "cases": r.cases, "started": r.started, "seconds": r.seconds}
            for r in verdict.records
        ],
    }


def html(card: Scorecard) -> str:
    """One page that needs nothing else: no script, no font, no picture from anywhere."""
    # Autoescape by the template's name: texts of evidence are data and may contain anything.
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=select_autoescape(["html"]))
    service = load_settings(environment="test").service
    colour = COLOURS[card.decision]
    page = environment.get_template("report.html")
    return page.render(
        card=card, counts=counts(card), levels=LEVELS, service=service, colour=colour, rule=four_eyes_rule()
    )


def counts(card: Scorecard) -> dict[str, int]:
    """How much of it there is. No score: a gate that is below its minimum is not made up for by another."""
    verdicts = [verdict for score in card.gates for verdict in score.verdicts]
    words = [word for score in card.gates for word in score.words]
    return {
        "gates": sum(score.passes for score in card.gates),
        "controls": len(verdicts),
        "proven": sum(verdict.counts for verdict in verdicts),
        "statements": len(words),
        "attested": sum(word.state == "PASS" for word in words),
        "cases": sum(verdict.cases for verdict in verdicts if verdict.counts),
    }


def badge(card: Scorecard) -> str:
    """`gates | PAUSED 3/10`, in the usual shape of a badge."""
    reached = sum(score.passes for score in card.gates)
    left, right = "gates", f"{card.decision} {reached}/{len(card.gates)}"
    first, second = 16 + 7 * len(left), 16 + 7 * len(right)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{first + second}" height="20" role="img" '
        f'aria-label="{left}: {right}"><title>{left}: {right}</title>'
        f'<rect width="{first}" height="20" rx="3" fill="#3a4350"/>'
        f'<rect x="{first}" width="{second}" height="20" rx="3" fill="{COLOURS[card.decision]}"/>'
        f'<rect x="{first}" width="4" height="20" fill="{COLOURS[card.decision]}"/>'
        '<g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{first / 2}" y="14">{left}</text><text x="{first + second / 2}" y="14">{right}</text></g></svg>\n'
    )
