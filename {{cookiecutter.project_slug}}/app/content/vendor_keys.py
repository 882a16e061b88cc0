"""The keys of clouds and vendors, each by the part that its vendor puts in front of it or by its exact form.

A list by hand, because none that is kept can be used here: docs/decisions/template/0030-redaction-by-kept-libraries.md
says which were tried and what each costs. `benchmarks/personal_data.py` holds it to theirs. Gate: validation.
"""

import re
from collections.abc import Iterator
from functools import cache

# Prefixes that stand for nothing else: 16 characters behind one are a key.
PREFIXES = (
    # code and packages
    "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-",
    "glptt-", "gloas-", "glagent-", "glimt-", "glffct-", "glrtr-", "GR1348941", "ATATT3", "ATCTT3", "ATBB", "npm_",
    "pypi-", "rubygems_", "CLOJARS_", "dckr_pat_", "dckr_oat_", "AKCp", "cmVmdGtuOj", "CCIPAT_", "CCIPRJ_", "bkua_",
    "bkct_", "sqp_", "squ_", "sqa_", "snyk_", "oy2", "cio",
    # clouds
    "GOCSPX-", "ya29.", "LTAI", "AQVN", "dop_v1_", "doo_v1_", "dor_v1_", "HRKU-", "fm2_", "fo1_", "fm1_", "nfp_",
    "vcp_", "vercel_", "sbp_", "sb_secret_", "pscale_tkn_", "pscale_pw_", "pscale_oauth_", "napi_", "hvs.", "hvb.",
    "hvr.", "pul-", "dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit.", "ops_eyJ", "tskey-", "cfut_",
    "cfat_", "ABSK", "hcaik_", "hcbik_", "bedrock-api-key-", "AGE-SECRET-KEY-1", "A3-",
    # models
    "sk-", "pk-", "rk-", "hf_", "api_org_", "r8_", "gsk_", "xai-", "pplx-", "fw_", "tgp_v1_", "lsv2_pt_",
    "lsv2_sk_", "nvapi-", "pcsk_", "wandb_v1_", "jina_", "tvly-", "csk-",
    # products
    "xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xoxe.xox", "xapp-", "ntn_",
    "lin_api_", "lin_oauth_", "figd_", "figo_", "figu_", "PMAK-", "PMAT-", "sntrys_", "sntryu_", "NRAK-", "NRJS-",
    "NRII-", "NRAA-", "glsa_", "glc_", "dt0c01.", "dt0s01.", "dt0s16.", "CFPAT-", "pnu_", "dbtc_", "dbtu_",
    "fio-u-", "tfp_", "phc_", "phx_", "pat-na1-", "pat-eu1-", "IGQ", "EAAC", "EAAG", "shpat_", "shpca_", "shppa_",
    "shpss_", "shptka_", "rdme_", "ubtb_",
    # money and messages
    "sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_", "whsec_", "sq0atp-", "sq0csp-",
    "sq0idp-", "EAAA", "rzp_live_", "rzp_test_", "access-production-", "access-sandbox-", "shippo_live_",
    "shippo_test_", "duffel_live_", "duffel_test_", "FLWSECK-", "FLWSECK_", "EZAK", "EZTK", "xkeysib-", "xsmtpsib-",
    "AQE",
)  # fmt: skip
# A fixed part, and the form around it.
_EXACT = (
    ("AKIA", r"AKIA[0-9A-Z]{16}(?![0-9A-Z])"),
    ("ASIA", r"ASIA[0-9A-Z]{16}(?![0-9A-Z])"),
    ("ABIA", r"ABIA[0-9A-Z]{16}(?![0-9A-Z])"),
    ("ACCA", r"ACCA[0-9A-Z]{16}(?![0-9A-Z])"),
    ("A3T", r"A3T[0-9A-Z]{17}(?![0-9A-Z])"),
    ("AKID", r"AKID[A-Za-z0-9]{32}"),
    ("amzn.mws.", r"amzn\.mws\.[0-9a-f-]{36}"),
    ("AIza", r"AIza[\w-]{35}"),
    ("1//0", r"1//0[\w-]{40,200}"),
    ("Q~", r"[\w.~-]{3}\dQ~[\w.~-]{31,34}"),
    ("AZDO", r"[A-Za-z0-9]{60,90}AZDO[A-Za-z0-9]{4}"),
    ("ARM", r"[A-Za-z0-9+/]{33,52}(?:\+ACR|\+ARM|AzSe|\+AMC|\+ASt|ACDb|AzFu)[A-Za-z0-9+/=]{5,8}"),
    ("AzSe", r"[A-Za-z0-9]{42}AzSe[A-Za-z0-9]{6}"),
    ("AzFu", r"[\w-]{44}AzFu[\w-]{5}[AQgw]=="),
    ("dapi", r"(?:dapi|dkea)[0-9a-f]{32}(?:-\d{1,2})?"),
    ("SG.", r"SG\.[\w-]{16,32}\.[\w-]{32,64}"),
    ("SK", r"SK[0-9a-f]{32}"),
    ("key-", r"key-[0-9a-f]{32}"),
    ("-us", r"[0-9a-f]{32}-us\d{1,2}"),
    ("re_", r"re_[A-Za-z0-9]{6,12}_[A-Za-z0-9]{20,32}"),
    (":AA", r"\d{8,10}:AA[\w-]{32,34}"),
    ("pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    ("sl.", r"sl\.[\w-]{100,1200}"),
    (".", r"[MNO][A-Za-z\d_-]{22,26}\.[A-Za-z\d_-]{6}\.[A-Za-z\d_-]{27,38}"),
    (".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,70}"),
    ("access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}"),
    ("sq0", r"sq0[a-z]{3}-[\w-]{22,43}"),
    ("hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w/]{20,200}"),
    ("/api/webhooks/", r"/api/webhooks/\d{17,20}/[\w-]{60,80}"),
    ("webhook.office.com/", r"webhook\.office\.com/webhookb2/[\w@/-]{60,300}"),
    ("AAAAAAAAAA", r"A{10,30}[A-Za-z0-9%]{60,120}"),
    ("secret_", r"secret_[A-Za-z0-9]{40,50}"),
    ("t1.", r"t1\.[A-Z0-9a-z_-]{30,200}[=]{0,2}\.[A-Z0-9a-z_-]{60,120}[=]{0,2}"),
    ("svc_", r"svc_[a-z]{2,11}_[a-z0-9]{12}_[A-Za-z0-9_-]{43}"),
    ("claim_", r"claim_[A-Za-z0-9_-]{43}"),
)
_PLACE = r"(?<![A-Za-z0-9])"  # no letter or digit right before it
_BEHIND_PREFIX = r"(?=[\w.~+/-]{0,200}[\dA-Z]|[a-z]{20})(?:[\w-]|[.~+/](?=[\w-])){16,400}={0,2}"
_LONG = re.compile(r"[\w.~+/=$:@%-]{19,}+")  # no key is shorter
_FORMS = (*_EXACT, *((prefix, re.escape(prefix) + _BEHIND_PREFIX) for prefix in PREFIXES))


@cache
def _compiled(form: str) -> re.Pattern[str]:
    return re.compile(_PLACE + form)  # at its first use: most processes meet none of them


def vendor_keys(text: str) -> Iterator[tuple[int, int]]:
    """Where keys of vendors stand, as start and end."""
    long = "\n".join(_LONG.findall(text))  # most texts have none, and then none of the prefixes is looked for
    for mark, form in _FORMS if long else ():
        if mark in long:
            yield from (match.span() for match in _compiled(form).finditer(text))
