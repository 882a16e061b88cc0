"""What binds evidence to an image: the image's digest and the SHA-256 of the evidence. Gate: deployment.

`make seal` writes the seal and has it signed as an attestation of the image; `make verify` puts the signed one in its
place. Evidence that was changed since then does not match it. Without the signature, whoever can change the evidence
can change the seal as well.
"""

import base64
import binascii
import json
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gates import evidence, subject, suites
from gates.catalogue import ROOT

FILE = evidence.FILE.with_name("seal.json")
DIGEST = r"^sha256:[0-9a-f]{64}$"


class SealUnreadable(Exception):
    """The seal cannot be read; the message says why."""


class Seal(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(pattern=DIGEST)
    evidence: str  # digest of the records that the scorecard is computed from
    commit: str
    decision: str  # for who reads the attestation; the gate computes its own
    at: AwareDatetime

    @classmethod
    def load(cls, file: Path = FILE) -> Self:
        """Raises SealUnreadable."""
        if not file.exists():
            raise SealUnreadable("no evidence is bound to this image; run: make seal (in a pipeline: make verify)")
        return cls.of(file.read_bytes(), file.name)

    @classmethod
    def of(cls, text: bytes | str, where: str) -> Self:
        """Raises SealUnreadable."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            issue = error.errors(include_input=False, include_url=False)[0]
            raise SealUnreadable(f"{where}: {'.'.join(map(str, issue['loc']))} {issue['msg']}") from None

    def write(self, file: Path = FILE) -> None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def new(image: str, commit: str, decision: str, at: datetime) -> Seal:
    """The seal of the evidence that lies here. Raises SealUnreadable for what is no digest."""
    fields = {"image": image, "evidence": digest(), "commit": commit, "decision": decision, "at": at.isoformat()}
    return Seal.of(json.dumps(fields), "the seal")


def digest(root: Path = ROOT) -> str:
    """Over everything that a scorecard is computed from and that is not in the repository."""
    files = (evidence.FILE, suites.AGENTDOJO, suites.SCHEMATHESIS)
    return subject.digest(root, [root / file.relative_to(ROOT) for file in files])


def refusal(seal: Seal, image: str) -> str:
    """Why the evidence does not count for this image; empty when it does."""
    if seal.image != image:
        return f"the evidence is of the image {seal.image}, not of {image or 'one without a digest'}"
    if seal.evidence != digest():
        return "the evidence was changed after it was bound to the image"
    return ""


def signed(envelopes: str) -> Seal:
    """The newest seal among attestations as `cosign verify-attestation` prints them, one DSSE envelope a line.

    Raises SealUnreadable."""
    seals = [_predicate(line) for line in envelopes.splitlines() if line.strip()]
    if not seals:
        raise SealUnreadable("no signed seal was given; expected what cosign verify-attestation prints")
    return max(seals, key=lambda seal: seal.at)


def _predicate(line: str) -> Seal:
    try:
        statement = json.loads(base64.b64decode(json.loads(line)["payload"], validate=True))
        predicate = json.dumps(statement["predicate"])
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise SealUnreadable(f"an attestation that is none: {type(error).__name__}") from None
    return Seal.of(predicate, "a signed seal")
