"""`make e2e` says what it needs; the flow itself is played by it, with a client that is made only there."""

from typing import Any

import pytest

from gates.e2e import __main__ as e2e


@pytest.mark.parametrize("missing", ["uv", "attrs", "httpx"])
def test_a_missing_tool_is_named_and_nothing_is_judged(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(name: str) -> Any:
        return None if name == missing else name

    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr("shutil.which", found)
    monkeypatch.setattr(e2e, "find_spec", found)
    with pytest.raises(SystemExit) as ended:
        e2e.main()
    assert ended.value.code == 2
    assert "run: make e2e" in capsys.readouterr().err
