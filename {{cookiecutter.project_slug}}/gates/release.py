"""`python -m gates.release`: the deploy gate of a pipeline, and what it needs. Exit 0 go, 1 not, 2 cannot be told.

Apart from `python -m gates`, because it needs no part of the service and is asked often. Gate: deployment.
"""

import sys
from typing import Annotated

import typer

from gates import carried, go, seal
from gates.attestations import AttestationsUnreadable
from gates.catalogue import ROOT, Catalogue, CatalogueInvalid
from gates.evidence import EvidenceUnreadable
from gates.sabotage import KillsUnreadable
from gates.scorecard import EXIT
from gates.seal import SealUnreadable
from gates.standing import scorecard

CANNOT_JUDGE = EXIT["CANNOT JUDGE"]
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
Image = Annotated[str, typer.Option("--digest", envvar="DIGEST", help="The image, as sha256:…")]


@app.command("go")
def may_deploy(
    digest: Image = "",
    accept_waiver: Annotated[bool, typer.Option(help="Go on a waiver as well, which two people signed.")] = False,
) -> None:
    """Say whether this commit, as this image, may be deployed."""
    told = go.answer(scorecard(Catalogue.load()), digest, accept_waiver=accept_waiver)
    print(told.why, file=sys.stderr if told.code else sys.stdout)
    sys.exit(told.code)


@app.command("seal")
def bind(digest: Image, carries: Annotated[str, typer.Option(help="What gates/carried.py says in it.")]) -> None:
    """Bind the evidence to an image that carries the proven code."""
    if carries != (here := carried.digest(ROOT)):
        raise SealUnreadable(f"the image carries other code ({carries[:12] or 'unknown'}) than lies here ({here[:12]})")
    card = scorecard(Catalogue.load())
    seal.new(digest, card.subject.commit, card.decision, card.at).write()
    print(f"bound to {digest}: {card.decision}, {card.reason}")
    sys.exit(EXIT[card.decision])


@app.command("signed")
def take_signed() -> None:
    """Take the seal from attestations whose signature cosign has verified (standard input)."""
    seal.signed(sys.stdin.read()).write()


def main() -> None:
    try:
        app()
    except (
        CatalogueInvalid, EvidenceUnreadable, AttestationsUnreadable, KillsUnreadable, SealUnreadable
    ) as error:  # fmt: skip
        print(f"cannot be told: {error}", file=sys.stderr)
        sys.exit(CANNOT_JUDGE)


if __name__ == "__main__":
    main()
