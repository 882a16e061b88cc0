"""How much personal data the redactor finds, and how much else it takes for some: `make benchmarks`.

Values come from Faker's generators in eleven countries, which know nothing of our patterns; texts without personal
data are the near misses: order numbers, versions, hashes, dates, and valid values with one digit changed.
"""

import random
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator

from faker import Faker
from rich.console import Console
from rich.table import Table

from app.content.personal import find

LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "sv_SE", "pt_BR", "da_DK")
PER_KIND = 1_000
CHECKED = {
    "iban": 0.95,
    "card": 0.95,
    "ssn": 0.95,
    "email": 0.95,
    "ip": 0.95,
    "secret": 0.95,
}  # kinds with a strict form
PRECISION = 0.95
SENTENCES = (
    "Please contact me at {} about the delay.",
    "My details: {}, thanks!",
    "{} is what the form says",
    "Customer wrote:\n{}\nand asked for a refund.",
    '{{"value": "{}"}}',
    "({}) was given on the phone",
)


def values(fake: dict[str, Faker], rng: random.Random) -> dict[str, Callable[[], str]]:
    def any_of() -> Faker:
        return fake[rng.choice(LOCALES)]

    def letters(count: int) -> str:
        return "".join(rng.choices(string.ascii_letters + string.digits, k=count))

    def grouped(number: str) -> str:
        gap = rng.choice(("", " ", "-"))
        return gap.join(number[i : i + 4] for i in range(0, len(number), 4))

    return {
        "email": lambda: any_of().email(),
        "iban": lambda: rng.choice((any_of().iban(), _spaced(any_of().iban()))),
        "card": lambda: grouped(
            fake["en_US"].credit_card_number(rng.choice(("visa16", "mastercard", "amex", "discover")))
        ),
        "ssn": fake["en_US"].ssn,
        "ip": lambda: rng.choice((fake["en_US"].ipv4(), fake["en_US"].ipv6())),
        "phone": lambda: any_of().phone_number(),
        "secret": lambda: rng.choice((f"sk-proj-{letters(48)}", f"AKIA{letters(16).upper()}", f"ghp_{letters(36)}")),
    }


def _spaced(iban: str) -> str:
    return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))


def near_misses(fake: dict[str, Faker], rng: random.Random) -> Iterator[str]:
    """Texts without personal data that look like some."""
    english = fake["en_US"]
    for _ in range(PER_KIND):
        card = english.credit_card_number("visa16")
        iban = fake["de_DE"].iban()
        yield f"Widget serial {card[:-1]}{(int(card[-1]) + 5) % 10} was shipped."
        yield f"Reference {iban[:-1]}{(int(iban[-1]) + 1) % 10} is not an account."
        yield f"Commit {english.sha1()} of {english.date()} at {english.time()}."
        yield f"Run {english.uuid4()} took {rng.uniform(0, 99):.6f} s."
        yield f"Version {rng.randint(0, 20)}.{rng.randint(0, 40)}.{rng.randint(0, 9)} is out."
        yield f"It costs {rng.randint(1, 9)},{rng.randint(100, 999)},{rng.randint(100, 999)}.00."
        yield f"Order {rng.randint(10**6, 10**7)}-{rng.randint(10, 99)} at {english.iso8601()}."
        yield f"ISBN {english.isbn13()} has {rng.randint(100, 900)} pages."
        yield english.paragraph(nb_sentences=3)


def main() -> int:
    out = Console(highlight=False)
    rng = random.Random(20261124)  # noqa: S311 - the same values every time
    Faker.seed(20261124)
    fake = {locale: Faker(locale) for locale in LOCALES}
    hit: Counter[str] = Counter()
    missed: dict[str, list[str]] = {}
    seconds = characters = 0.0
    for kind, make in values(fake, rng).items():
        for _ in range(PER_KIND):
            value = make()
            text = rng.choice(SENTENCES).format(value)
            started = time.perf_counter()
            found = find(text)
            seconds += time.perf_counter() - started
            characters += len(text)
            start = text.index(value)
            covered = any(f.start <= start and f.end >= start + len(value.strip()) for f in found)
            hit[kind] += covered
            if not covered:
                missed.setdefault(kind, []).append(value)
    clean = list(near_misses(fake, rng))
    false = [(text, found) for text in clean if (found := find(text))]
    precision = hit.total() / (hit.total() + len(false))
    table = Table("kind", "found", "recall", "must be", "for example missed", box=None, header_style="dim")
    for kind in hit:
        floor = f"{CHECKED[kind]:.2f}" if kind in CHECKED else "reported"
        table.add_row(
            kind, f"{hit[kind]}/{PER_KIND}", f"{hit[kind] / PER_KIND:.3f}", floor, ", ".join(missed.get(kind, [])[:2])
        )
    out.print(table)
    out.print(f"precision {precision:.4f}: {len(false)} of {len(clean)} texts without personal data were touched")
    for text, found in false[:3]:
        out.print(f"  {text}  {[f.kind for f in found]}", style="dim", markup=False)
    out.print(f"{characters / seconds / 1e6:.1f} million characters a second on this machine, in sentences")
    good = precision >= PRECISION and all(hit[kind] / PER_KIND >= floor for kind, floor in CHECKED.items())
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
