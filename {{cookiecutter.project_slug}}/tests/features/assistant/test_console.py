"""The operator console: sign in, decide, see the cost; and what it refuses."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.service import Service

TASK = "Create a ticket: <script>alert(1)</script> the printer is jammed."


def _browser(service: Service) -> httpx2.Client:
    return httpx2.Client(base_url=service.base_url, **PLAIN, follow_redirects=True, timeout=300)


def _sign_in(browser: httpx2.Client, who: Person) -> str:
    page = browser.post("/console/sign-in", data={"key": who.key})
    assert page.status_code == 200
    return page.text


def _field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found, f"no field {name}"
    return found[1]


class _Form(HTMLParser):
    """The fields of a page, as a browser would send them again."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values, self.checked, self.described = dict[str, str](), dict[str, str](), dict[str, str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        its = dict(attrs)
        name, value = its.get("name") or "", its.get("value") or ""
        if tag == "input" and its.get("type") == "radio":
            self.checked |= {name: value} if "checked" in its else {}
        elif tag == "input":
            self.values[name] = value
            self.described[name] = its.get("aria-describedby") or ""


def _decision(question: dict[str, Any], choice: str = "approve") -> dict[str, str]:
    return {f"digest:{question['id']}": question["digest"], f"decision:{question['id']}": choice}


def test_an_approver_decides_in_the_console(service: Service) -> None:
    member, approver = service.people(["member"], ["approver"])
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    with _browser(service) as browser:
        page = _sign_in(browser, approver)
        assert "create_ticket" in page
        assert "<script>alert" not in page, "the console must escape what the model wrote"
        [question] = service.pending(approver, run_id)
        form = {"csrf": _field(page, "csrf"), **_decision(question), "reason": "looks right"}
        forged = browser.post("/console/approvals", data={**form, "csrf": "guessed"})
        assert forged.status_code == 403
        nothing = browser.post("/console/approvals", data={**form, f"decision:{question['id']}": ""})
        assert "Nothing was chosen" in nothing.text
        both = browser.post("/console/approvals", data={**form, f"decision:{question['id']}": ["deny", "approve"]})
        assert both.status_code == 422, "a form that says both decides nothing"
        done = browser.post("/console/approvals", data=form)
        assert done.status_code == 200
        assert done.url.path == "/console", "a reload must not send the decision again"
        assert "create_ticket: approved" in done.text
        assert "create_ticket: approved" not in browser.get("/console").text, "a notice is shown once"
        again = browser.post("/console/approvals", data=form)
        assert again.status_code == 409
        assert "decided already" in again.text
        service.run_until(member, run_id, "succeeded")
        assert "succeeded" in browser.get("/console").text


@pytest.mark.parametrize("reason", ["", "  ", "no", "x" * 301, "the \0 character"])
def test_a_refused_reason_loses_nothing_that_was_typed_or_chosen(service: Service, reason: str) -> None:
    """Fault 33: the message stands at the field, and the page can be sent again as it is."""
    member, approver = service.people(["member"], ["approver"])
    run_ids = [service.start_run(member, f"Create a ticket: the printer {n} is jammed.").json()["id"] for n in "ab"]
    for run_id in run_ids:
        service.run_until(member, run_id, "waiting")
    with _browser(service) as browser:
        page = _sign_in(browser, approver)
        assert "(3 to 300 characters)" in page
        questions = [service.pending(approver, run_id)[0] for run_id in run_ids]
        chosen = _decision(questions[0], "deny") | _decision(questions[1])
        form = {"csrf": _field(page, "csrf"), **chosen, "reason": reason}
        refused = browser.post("/console/approvals", data=form)
        assert refused.status_code == 422
        seen = _Form(refused.text)
        assert seen.values["reason"] == reason.replace("\0", "⟨U+0000⟩")
        assert [seen.checked[f"decision:{each['id']}"] for each in questions] == ["deny", "approve"]
        assert seen.described["reason"] == "reason-error"
        assert 'id="reason-error" role="alert">' in refused.text
        assert all(service.pending(approver, run_id) for run_id in run_ids), "nothing was decided"
        decided = browser.post("/console/approvals", data={**form, "reason": "as it should be"})
        assert "create_ticket: denied" in decided.text
        assert "create_ticket: approved" in decided.text


def test_a_refused_decision_loses_nothing_either(service: Service) -> None:
    """Fault 33, of the same kind: the form is complete, and the service declines what it says."""
    member, approver = service.people(["member"], ["approver"])
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    with _browser(service) as browser:
        page = _sign_in(browser, approver)
        [question] = service.pending(approver, run_id)
        form = {"csrf": _field(page, "csrf"), **_decision(question), "reason": "it <is> jammed"}
        nothing = browser.post("/console/approvals", data={**form, f"decision:{question['id']}": ""})
        stale = browser.post("/console/approvals", data={**form, f"digest:{question['id']}": "0" * 64})
        for refused in (nothing, stale):
            assert refused.status_code == 409
            assert _Form(refused.text).values["reason"] == "it <is> jammed"
        assert _Form(stale.text).checked[f"decision:{question['id']}"] == "approve"
        assert service.pending(approver, run_id)


def test_who_asked_is_named_and_gets_no_buttons(service: Service) -> None:
    both, approver = service.people(["member", "approver"], ["approver"])
    run_id = service.start_run(both, TASK).json()["id"]
    service.run_until(both, run_id, "waiting")
    with _browser(service) as browser:
        page = _sign_in(browser, both)
        assert "another person must decide" in page
        assert 'value="approve"' not in page
    with _browser(service) as browser:
        page = _sign_in(browser, approver)
        assert f"{both.name}'s run asks for" in page
        assert 'value="approve"' in page


def test_a_member_sees_runs_and_cost_and_no_questions(service: Service) -> None:
    member, approver = service.people(["member"], ["approver"])
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    with _browser(service) as browser:
        page = _sign_in(browser, member)
        assert "waiting" in page
        assert "Budget" in page
        assert "Waiting for a decision" not in page
        form = {"csrf": _field(page, "csrf"), **_decision(question)}
        assert browser.post("/console/approvals", data=form).status_code == 403


def test_without_a_session_everything_leads_to_sign_in(service: Service) -> None:
    with _browser(service) as browser:
        assert browser.get("/console").url.path == "/console/sign-in"
        browser.cookies.set("console_session", "forged.value", path="/console")
        assert browser.get("/console").url.path == "/console/sign-in"
        wrong = browser.post("/console/sign-in", data={"key": "svc_test_wrong"})
        assert wrong.status_code == 401
        assert "svc_test_wrong" not in wrong.text


def test_signing_out_ends_the_session_also_for_a_kept_cookie(service: Service) -> None:
    [member] = service.people(["member"])
    with _browser(service) as browser:
        page = _sign_in(browser, member)
        kept = browser.cookies["console_session"]
        browser.post("/console/sign-out", data={"csrf": _field(page, "csrf")})
        browser.cookies.set("console_session", kept, path="/console")
        assert browser.get("/console").url.path == "/console/sign-in"
        assert _sign_in(browser, member)
        assert browser.get("/console").url.path == "/console"


def test_odd_form_values_are_refused_without_an_error(service: Service) -> None:
    [member] = service.people(["member"])
    with _browser(service) as browser:
        _sign_in(browser, member)
        assert browser.post("/console/sign-out", data={"csrf": "é"}).status_code == 403
        assert browser.post("/console/sign-out", data={"csrf": "\0"}).status_code == 422


def test_signing_in_works_from_our_own_page_only(service: Service) -> None:
    [member] = service.people(["member"])
    expected = [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, 303),  # what a browser sends from our page
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": service.base_url}, 303),
        ({}, 303),
    ]
    url = f"{service.base_url}/console/sign-in"
    for headers, status in expected:
        answer = httpx2.post(url, data={"key": member.key}, headers=headers, **PLAIN)
        assert answer.status_code == status, headers


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(service: Service) -> None:
    [member] = service.people(["member"])
    answer = httpx2.post(f"{service.base_url}/console/sign-in", data={"key": member.key}, **PLAIN)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert member.key.lower() not in cookie


def test_revoking_the_key_ends_the_session(service: Service) -> None:
    member, admin = service.people(["member"], ["admin"])
    with _browser(service) as browser:
        _sign_in(browser, member)
        keys = service.call(admin, "GET", "/v1/keys").json()["items"]
        [key_id] = [key["id"] for key in keys if key["member_id"] == member.member_id]
        service.call(admin, "DELETE", f"/v1/keys/{key_id}")
        assert browser.get("/console").url.path == "/console/sign-in"
