"""Where this code stands: the scorecard of the evidence, attestations and sabotage that lie in this folder."""

from datetime import UTC, datetime

from gates import attestations, evidence, subject, suites
from gates.catalogue import Catalogue
from gates.evidence import EvidenceUnreadable
from gates.sabotage import Kills
from gates.scorecard import Scorecard, judge


def scorecard(catalogue: Catalogue, gate: str = "") -> Scorecard:
    """Computed now. Raises EvidenceUnreadable, AttestationsUnreadable and KillsUnreadable."""
    now = datetime.now(UTC)
    if not evidence.FILE.exists():
        raise EvidenceUnreadable("there is no evidence here; run: make gates")
    kills = Kills.load()
    this = subject.current()
    return judge(
        catalogue,
        evidence.read(),
        attestations.load(catalogue, now.date()),
        {control: kills.uncaught(control) for control in catalogue.controls},
        this,
        now,
        gates=catalogue.named(gate),
        suites=suites.passed(this, now),
        assessed=suites.assessed(this, now),
    )
