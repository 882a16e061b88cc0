"""`python -m gates`: run the proofs, judge the evidence, print the scorecard. Exit 0 GO, 1 PAUSED, 2 cannot judge."""

import signal
import sys
from typing import Annotated

import typer

from app.entrypoints.terminal import accept_any_terminal
from gates import dependencies, page, report, run, screen
from gates.attestations import AttestationsUnreadable
from gates.catalogue import ROOT, Catalogue, CatalogueInvalid
from gates.evidence import EvidenceUnreadable
from gates.run import ProofsBroken, Selection
from gates.sabotage import KillsUnreadable
from gates.scorecard import EXIT
from gates.standing import scorecard

CANNOT_JUDGE = EXIT["CANNOT JUDGE"]
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
Only = Annotated[str, typer.Option("--gate", help="Only these gates, such as: cost,errors")]


@app.command("run")
def run_proofs(
    gate: Only = "",
    fast: Annotated[bool, typer.Option("--fast", help="Leave out slow proofs.")] = False,
    url: Annotated[str, typer.Option("--url", help="Only what HTTP can show, at a deployed service.")] = "",
    proofs_only: Annotated[
        bool, typer.Option("--proofs-only", help="Fail on a proof that fails, without judging.")
    ] = False,
) -> None:
    """Run the proofs and print the scorecard."""
    catalogue = Catalogue.load()
    chosen = catalogue.named(gate)
    selection = Selection(chosen, fast=fast, url=url, complete=not gate and not fast)
    screen.opening(fast=fast, remote=bool(url))
    records = run.proofs(selection)
    if url:
        sys.exit(screen.show_remote(url, records))
    if proofs_only:
        sys.exit(screen.show_proofs(records))
    _judged(catalogue, gate)


@app.command()
def score(gate: Only = "") -> None:
    """Judge the evidence that is there, without running anything."""
    _judged(Catalogue.load(), gate)


@app.command("page")
def write_page() -> None:
    """Write docs/gates.md from the catalogue, and docs/dependencies.md from what is declared of them."""
    pages = {"gates.md": page.page(Catalogue.load()), "dependencies.md": dependencies.page(dependencies.load())}
    for name, text in pages.items():
        target = ROOT / "docs" / name
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")


def _judged(catalogue: Catalogue, gate: str) -> None:
    card = scorecard(catalogue, gate)
    written = report.write(card)
    screen.show(card, written)
    sys.exit(EXIT[card.decision])


def main() -> None:
    accept_any_terminal()
    # Also where they were inherited as ignored, and for a CI job that is cancelled: the run takes its services along.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    try:
        app()
    except (CatalogueInvalid, EvidenceUnreadable, AttestationsUnreadable, KillsUnreadable, ProofsBroken) as error:
        screen.cannot_judge(str(error))
        sys.exit(CANNOT_JUDGE)


if __name__ == "__main__":
    main()
