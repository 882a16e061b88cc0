"""docs/gates.md, made from the catalogue: `python -m gates page`. A test holds the page to it."""

from gates.catalogue import Catalogue, Control, Gate

HEAD = """# The ten gates

Made from `gates/controls.toml` by `python -m gates page`; do not edit.

`make gates` drives the running service with a hijacked model, a broken provider and two tenants, and scores what held.
A control counts only when its proof passed on this commit; one that is not built yet stands here and scores FAIL. What
has no proof yet comes with a later release of the template (`make update`); what people attest is yours.

| level | needs, each with all before it |
|---|---|
| 0 | the service does not start, or no critical control passes |
| 1 | a critical control passes |
| 2 | half of the critical controls pass |
| 3 Proven | all critical controls pass on this commit, their sabotage was caught, people attested what is critical |
| 4 Resistant | 80 % of the standard controls pass, and their sabotage was caught |
| 5 Independent | so do all standard and half of the advanced ones; independent suites and all attestations are in |

**GO** needs all ten gates at their minimum. Evidence holds for one commit, one configuration and a day (slow suites a
week). What people must say goes into `attestations.toml`. Only Performance can be waived, by two people for at most
fourteen days; a waiver changes no score and helps only where every critical control of the gate passes. The
environment a service is deployed with (`.env`, secrets) is not part of the evidence.

What protects the evidence: a proof must first show that the legitimate request works, must reach its number of cases,
and must make every assertion listed here. The template breaks each control on purpose and requires the named assertion
to fail; `gates/sabotage.json` says for which code that was shown. Once that code is another, the kill is stale and does
not count. A proof that started no service and asked none does not pass. A proof that failed on this code is not made
good by running it again; only a complete run starts over. One that ran out of time could not judge: ERROR, which does
not count either. What does not protect it: the evidence is not signed, and the
catalogue, the proofs, the scorer and the record of sabotage are files of this repository. Whoever may change them may
change the verdict: have changes below `gates/` reviewed, and let CI make the evidence where people cannot edit it.
Sabotage shows that a proof notices the cuts that were tried, not every cut there is.

| gate | question | minimum |
|---|---|---|
"""


def page(catalogue: Catalogue) -> str:
    overview = "".join(f"| [{g.name}](#{_anchor(g)}) | {g.question} | {g.minimum} |\n" for g in catalogue.gate)
    return HEAD + overview + "".join(map(_section, catalogue.gate))


def _section(gate: Gate) -> str:
    lines = [f"\n## {gate.name}\n", f"{gate.question} Minimum to launch: **{gate.minimum}**.\n"]
    lines.append(f"Not proven here: {gate.unproven}\n")
    lines += ["| id | weight | control | where | proven by |", "|---|---|---|---|---|"]
    lines += [_row(control) for control in gate.control]
    if gate.attest:
        lines += ["\n| id | people attest | for at most |", "|---|---|---|"]
        lines += [f"| {s.id} | {s.statement} | {s.days} days, {s.weight} |" for s in gate.attest]
    if gate.suites:
        lines.append(f"\nLevel 5 also needs: {', '.join(gate.suites)}.")
    return "\n".join(lines) + "\n"


def _row(control: Control) -> str:
    where = "<br>".join(f"`{path}`" for path in control.implemented) or "nowhere"
    proven = f"{', '.join(control.assertions)} ({control.cases} cases)" if control.assertions else "not yet"
    if control.suite:
        proven = f"`make test-{control.suite}`, where that can run; elsewhere NOT ASSESSED"
    if control.unproven:
        proven += f". Not: {control.unproven[0].lower()}{control.unproven[1:]}"
    return f"| {control.id} | {control.weight} | {control.statement} | {where} | {proven} |"


def _anchor(gate: Gate) -> str:
    return gate.name.lower().replace(" ", "-")
