"""config/rollout.toml: what it may say, and what is said of a file that cannot be used."""

from pathlib import Path

import pytest

from app.config_files import SettingsInvalid
from app.rollout.rules import RolloutRules
from app.settings import ROOT

STAGE = "[[stages]]\nweight_percent = 5\nmargin_points = 5\nlooks = 3\n"


def _load(folder: Path, text: str) -> RolloutRules:
    (folder / "rollout.toml").write_text(text)
    return RolloutRules.load(folder)


def test_the_file_says_what_holds_without_it(tmp_path: Path) -> None:
    assert RolloutRules.load(ROOT / "config") == RolloutRules.load(tmp_path)


def test_each_look_spends_its_share(tmp_path: Path) -> None:
    metric = '[metrics.{}]\nclass = "binary"\ncriticality = "{}"\n'
    rules = _load(
        tmp_path,
        STAGE + metric.format("a", "critical") + metric.format("b", "critical") + metric.format("c", "informative"),
    )
    assert rules.level == pytest.approx(0.01 / (3 * 2))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[judging]\nfalse_abort = 0.1\n", "judging.false_abort"),
        ("[judging]\nconfidence = 1.5\n", "judging.confidence"),
        ("[judging]\ntotal_minutes = nan\n", "judging.total_minutes"),
        ("[[stages]]\nweight_percent = 5\n", "needs margin_points and looks"),
        ("[[stages]]\nweight_percent = 100\nmargin_points = 1\nlooks = 1\n", "no stable arm"),
        ("[[stages]]\nweight_percent = 100\n", "the first must be below 100 %"),
        (STAGE + STAGE, "must rise"),
        ("stages = []\n", "stages"),
        ('[metrics.errors]\nclass = "median"\n', "metrics.errors"),
        ('[metrics.errors]\nclass = "binary"\nmargin_cles = 0.6\n', "margin_cles"),
        ('[metrics.errors]\nclass = "binary"\ndirection = "left"\n', "direction"),
        ('[metrics.errors]\nclass = "binary"\ncriticality = "informative"\n', "at least one must be critical"),
        ('[metrics.latency]\nclass = "distribution"\nmargin_cles = 0.5\n', "margin_cles"),
        ("[judging\n", "rollout.toml"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"rollout\.toml cannot be used") as refused:
        _load(tmp_path, text)
    assert words in str(refused.value)
