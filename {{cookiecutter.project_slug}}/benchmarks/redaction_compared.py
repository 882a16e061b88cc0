"""What the redactor finds beside what others find, each value in the places where people put it: `make benchmarks`.

Presidio's recognizers of patterns, without a model of language, and the patterns of detect-secrets read the same texts.
A value counts as found where a result covers it; of Presidio every recognizer of the kind counts, at any score. Red
where the redactor is behind Presidio in a kind, finds fewer credentials than detect-secrets, or touches harmless text.
"""

import json
import random
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import presidio_analyzer.predefined_recognizers as recognizers
import tldextract
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from faker import Faker
from presidio_analyzer import LocalRecognizer, PatternRecognizer
from rich.console import Console
from rich.table import Table
from stdnum.util import get_cc_module

from app.content.personal import find
from benchmarks.personal_data import near_misses

PER_PLACE = 40
SEED = 20261127
PLACES = {
    "before a word": "{value} is the {label}",
    "after a word": "My {label} is {value}",
    "glued": "{label}:{value};ok",
    "JSON number": '{{"{label}": {value}}}',
    "JSON text": '{{"{label}": "{value}"}}',
    "in a name": "user_{value}",
    "a key": '{{"{value}": "the {label}"}}',
}
# Kind: what people call it, a locale of Faker's and its generator, and Presidio's names for it.
KINDS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "email": ("mail", "en_US", "email", ("EMAIL_ADDRESS",)),
    "iban": ("IBAN", "de_DE", "iban", ("IBAN_CODE",)),
    "card": ("card", "en_US", "credit_card_number", ("CREDIT_CARD",)),
    "ip": ("address", "en_US", "ipv4_public", ("IP_ADDRESS",)),
    "ip 6": ("address", "en_US", "ipv6", ("IP_ADDRESS",)),
    "mac": ("device", "en_US", "mac_address", ("MAC_ADDRESS",)),
    "phone, US": ("phone", "en_US", "phone_number", ("PHONE_NUMBER",)),
    "phone, UK": ("phone", "en_GB", "phone_number", ("PHONE_NUMBER",)),
    "phone, DE": ("phone", "de_DE", "phone_number", ("PHONE_NUMBER",)),
    "phone, IN": ("phone", "en_IN", "phone_number", ("PHONE_NUMBER",)),
    "SSN, US": ("SSN", "en_US", "ssn", ("US_SSN",)),
    "ITIN, US": ("ITIN", "en_US", "itin", ("US_ITIN",)),
    "NINO, UK": ("national insurance number", "en_GB", "ssn", ("UK_NINO",)),
    "NIF, ES": ("NIF", "es_ES", "nif", ("ES_NIF",)),
    "NIE, ES": ("NIE", "es_ES", "nie", ("ES_NIE",)),
    "codice fiscale, IT": ("codice fiscale", "it_IT", "ssn", ("IT_FISCAL_CODE",)),
    "PESEL, PL": ("PESEL", "pl_PL", "pesel", ("PL_PESEL",)),
    "personnummer, SE": ("personnummer", "sv_SE", "ssn", ("SE_PERSONNUMMER",)),
    "HETU, FI": ("HETU", "fi_FI", "ssn", ("FI_PERSONAL_IDENTITY_CODE",)),
    "Aadhaar, IN": ("Aadhaar", "en_IN", "aadhaar_id", ("IN_AADHAAR",)),
    "SIN, CA": ("SIN", "en_CA", "ssn", ("CA_SIN",)),
    "RRN, KR": ("RRN", "ko_KR", "ssn", ("KR_RRN",)),
    "TC kimlik, TR": ("T.C. kimlik", "tr_TR", "ssn", ("TR_NATIONAL_ID",)),
    "CPF, BR": ("CPF", "pt_BR", "cpf", ()),
    "NIR, FR": ("sécurité sociale", "fr_FR", "ssn", ()),
    "BSN, NL": ("BSN", "nl_NL", "ssn", ()),
}
# Made valid by their check digits here, where Faker has none: kind, label, length, module of stdnum, Presidio's name.
MADE = (
    ("NHS, UK", "NHS number", 10, ("gb", "nhs"), ("UK_NHS",)),
    ("TFN, AU", "tax file number", 9, ("au", "tfn"), ("AU_TFN",)),
    ("IdNr, DE", "Steuer-IdNr", 11, ("de", "idnr"), ("DE_TAX_ID",)),
    ("ID, ZA", "national ID number", 13, ("za", "idnr"), ("ZA_ID_NUMBER",)),
    ("PIN, TH", "national ID number", 13, ("th", "pin"), ("TH_TNIN",)),
)
# Formats of credentials. %a: letters and digits, %h hexadecimal, %u upper case and digits, %d digits.
_FORMATS = (
    "AKIA%u16 ASIA%u16 ABIA%u16 aws_secret_access_key=%a40 ABSK%a110 AIza%a35 GOCSPX-%a28 ya29.%a60 "
    "AccountKey=%a86== %a3%d1Q~%a34 SharedAccessKey=%a43= LTAI%a20 dop_v1_%h64 doo_v1_%h64 HRKU-%a60 fm2_%a80 "
    "nfp_%a36 vcp_%a48 sbp_%h40 pscale_tkn_%a43 pscale_pw_%a43 hvs.%a90 hvb.%a120 pul-%h40 dp.pt.%a43 "
    "tskey-auth-%a12-%a32 dapi%h32 ghp_%a36 gho_%a36 ghu_%a36 ghs_%a36 ghr_%a36 github_pat_%a22_%a59 glpat-%a20 "
    "glptt-%h40 glrt-%a20 gldt-%a20 ATATT3%a180 npm_%a36 pypi-AgEIcHlwaS5vcmc%a90 rubygems_%h48 dckr_pat_%a27 "
    "CCIPAT_%a22_%h40 sqp_%h40 snyk_%a36 sk-proj-%a48 sk-ant-api03-%a90 hf_%a34 r8_%a37 gsk_%a52 xai-%a80 pplx-%a48 "
    "lsv2_pt_%h32_%h10 nvapi-%a64 pcsk_%a60 wandb_v1_%a40 tvly-%a32 xoxb-%d12-%d12-%a24 xoxp-%d12-%d12-%d12-%h32 "
    "xapp-1-%u11-%d13-%h64 ntn_%a46 secret_%a43 lin_api_%a40 figd_%a40 PMAK-%h24-%h34 sntryu_%h64 NRAK-%u27 "
    "glsa_%a32_%h8 dt0c01.%u24.%u64 shpat_%h32 shpss_%h32 sk_live_%a24 rk_live_%a24 whsec_%a32 sq0csp-%a43 EAAA%a60 "
    "rzp_live_%a14%a4 xkeysib-%h64-%a16 SG.%a22.%a43 SK%h32 key-%h32 %h32-us12 %d9:AA%a33 pat%a14.%h64 "
    "eyJ%a30.eyJ%a60.%a43 https://hooks.slack.com/services/T%u9/B%u9/%a24 https://user:%a12@host.example/x "
    "password=%a12 newco_%a32 "
)
CREDENTIALS = _FORMATS.split()
ALPHABETS = {
    "a": string.ascii_letters + string.digits, "h": "0123456789abcdef", "u": string.ascii_uppercase + string.digits,
    "l": string.ascii_lowercase + string.digits, "d": string.digits,
}  # fmt: skip
Finds = Callable[[str], Iterable[tuple[int, int]]]


def filled(form: str, rng: random.Random) -> str:
    """A value of a format."""
    parts = form.split("%")
    made = [parts[0]]
    for part in parts[1:]:
        size = part[1:]
        digits = size[: len(size) - len(size.lstrip(string.digits))]
        made += ["".join(rng.choices(ALPHABETS[part[0]], k=int(digits))), size[len(digits) :]]
    return "".join(made)


def valid(size: int, module: tuple[str, str], rng: random.Random) -> str:
    """A number that its country's check digits allow."""
    checks: Any = get_cc_module(*module)
    while True:
        number = "".join(rng.choices(string.digits, k=size))
        if size == 13 and module[0] == "za":
            number = f"{rng.randint(50, 99)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{number[6:10]}0{number[11:]}"
        if checks.is_valid(number):
            return number


def presidio(entities: tuple[str, ...]) -> Finds:
    """Presidio's recognizers of these kinds, on their own: the engine around them needs a model of language."""
    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()  # the list that its package brings, and no network
    parts: list[LocalRecognizer] = []
    for name in recognizers.__all__:
        kind = getattr(recognizers, name)
        if isinstance(kind, type) and (issubclass(kind, PatternRecognizer) or name == "PhoneRecognizer"):
            recognizer = kind()
            if set(recognizer.supported_entities) & set(entities):
                parts.append(recognizer)

    def finds(text: str) -> Iterator[tuple[int, int]]:
        for part in parts:
            for result in part.analyze(text, list(entities), None) or ():
                yield result.start, result.end

    return finds


def detect_secrets() -> Finds:
    """The patterns of detect-secrets, without its reading of files; not the guess by entropy, which takes any text."""
    plugins = [
        kind() for kind in get_mapping_from_secret_type_to_class().values() if issubclass(kind, RegexBasedDetector)
    ]

    def finds(text: str) -> Iterator[tuple[int, int]]:
        for plugin in plugins:
            for form in plugin.denylist:
                yield from (match.span() for match in form.finditer(text))

    return finds


def ours(text: str) -> Iterator[tuple[int, int]]:
    return ((found.start, found.end) for found in find(text))


def covered(finds: Finds, text: str, value: str) -> bool:
    start = text.index(value)
    return any(at <= start and end >= start + len(value) for at, end in finds(text))


def compared(out: Console, makers: dict[str, tuple[str, Callable[[], str], Finds | None]]) -> list[str]:
    """Prints the recall of each kind in each place; names the kinds where the redactor is behind."""
    table = Table("kind", "ours", "presidio", *PLACES, box=None, header_style="dim")
    behind = []
    for kind, (label, make, finds) in makers.items():
        hits: Counter[tuple[str, str]] = Counter()
        tried: Counter[str] = Counter()
        for place, form in PLACES.items():
            for _ in range(PER_PLACE):
                value = make()
                if place == "JSON number":
                    value = "".join(char for char in value if char.isdigit())
                    if not make().replace("-", "").replace(" ", "").isdigit() or value.startswith("0"):
                        continue
                text = form.format(value=value, label=label)
                tried[place] += 1
                hits["ours", place] += covered(ours, text, value)
                hits["presidio", place] += finds is not None and covered(finds, text, value)
        whole = {who: sum(hits[who, place] for place in PLACES) / tried.total() for who in ("ours", "presidio")}
        if whole["ours"] < whole["presidio"]:
            behind.append(kind)
        cells = [
            f"{hits['ours', place] / tried[place]:.2f} {hits['presidio', place] / tried[place]:.2f}"
            if tried[place]
            else "-"
            for place in PLACES
        ]
        theirs = f"{whole['presidio']:.3f}" if finds else "-"
        table.add_row(kind, f"{whole['ours']:.3f}", theirs, *cells)
    out.print(table)
    return behind


def credentials_found(out: Console, rng: random.Random) -> bool:
    """Prints how many formats of credentials are found; whether the redactor finds as many as detect-secrets."""
    theirs = detect_secrets()
    found: Counter[str] = Counter()
    missed = []
    for form in CREDENTIALS:
        value = filled(form, rng)
        text = f"It says {value} here."
        secret = value.split("=", 1)[1].rstrip("=") if "=" in form.rstrip("=") else value
        if "://" in form and "@" in form:
            secret = value.split("://")[1].split("@")[0]
        hit = covered(ours, text, secret.split("https://")[-1])
        found["ours"] += hit
        found["detect-secrets"] += any(at < text.index(value) + len(value) and end > 8 for at, end in theirs(text))
        if not hit:
            missed.append(form)
    out.print(
        f"formats of credentials, of {len(CREDENTIALS)}: {json.dumps(found)}; missed: {', '.join(missed) or 'none'}"
    )
    return found["ours"] >= found["detect-secrets"]


def main() -> int:
    out = Console(highlight=False, width=200)
    rng = random.Random(SEED)  # noqa: S311 - the same values every time
    Faker.seed(SEED)
    fakers = {locale: Faker(locale) for locale in sorted({each[1] for each in KINDS.values()})}
    makers: dict[str, tuple[str, Callable[[], str], Finds | None]] = {}
    for kind, (label, locale, name, entities) in KINDS.items():
        makers[kind] = (label, getattr(fakers[locale], name), presidio(entities) if entities else None)
    for kind, label, size, module, entities in MADE:
        makers[kind] = (label, lambda size=size, module=module: valid(size, module, rng), presidio(entities))  # type: ignore[misc]
    behind = compared(out, makers)
    as_many = credentials_found(out, rng)
    harmless = list(near_misses({"en_US": Faker("en_US"), "de_DE": Faker("de_DE")}, rng))
    everything = presidio(
        tuple({name for each in KINDS.values() for name in each[3]} | {n for each in MADE for n in each[4]})
    )
    touched = {"ours": sum(any(True for _ in ours(text)) for text in harmless)}
    sample = harmless[:: max(1, len(harmless) // 900)]
    touched["presidio, of a tenth"] = sum(any(True for _ in everything(text)) for text in sample)
    out.print(f"harmless texts that were touched, of {len(harmless)}: {json.dumps(touched)}")
    bare = ["".join(rng.choices("123456789", k=size)) for size in range(8, 14) for _ in range(100)]
    rates = {
        "ours": sum(any(True for _ in ours(f"Total {number} so far")) for number in bare) / len(bare),
        "presidio": sum(any(True for _ in everything(f"Total {number} so far")) for number in bare) / len(bare),
    }
    out.print(f"numbers of 8 to 13 digits at random, without a word for them, that were touched: {json.dumps(rates)}")
    if behind:
        out.print(f"behind in: {', '.join(behind)}", style="red")
    return 0 if not behind and as_many and not touched["ours"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
