"""The address alone leads somewhere."""

from gates.rig.service import Service


def test_a_browser_comes_to_the_console_and_a_program_to_the_contract(service: Service) -> None:
    browser = service.call(None, "GET", "/", headers={"Accept": "text/html,application/xhtml+xml"})
    assert (browser.status_code, browser.headers["location"]) == (303, "/console")
    told = service.call(None, "GET", "/")
    assert told.status_code == 200
    assert told.headers["vary"] == "Accept"
    for place in ("openapi", "health"):
        assert service.call(None, "GET", told.json()[place]).status_code == 200
    assert service.call(None, "GET", "/?x=1").status_code == 422
