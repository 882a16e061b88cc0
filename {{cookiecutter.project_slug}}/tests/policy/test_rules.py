"""The policy as a function: default deny, permission first, and taint that no rule can lift."""

from hypothesis import given
from hypothesis import strategies as st

from app.identity.principal import Principal
from app.policy.decision import Allow, AskHuman, Deny, Effect
from app.policy.rules import DEFAULT_RULES, Policy, Rule, ToolRequest
from app.policy.taint import Taint

rules = st.builds(
    Rule,
    id=st.just("generated"),
    decision=st.sampled_from(["allow", "ask", "deny"]),
    effects=st.lists(st.sampled_from(list(Effect)), max_size=4).map(tuple),
    tools=st.lists(st.sampled_from(["one", "two"]), max_size=2).map(tuple),
    roles=st.lists(st.sampled_from(["member", "admin"]), max_size=2).map(tuple),
    reason=st.just("generated"),
)
policies = st.lists(rules, min_size=1, max_size=6).map(lambda found: Policy.of(tuple(found)))
taints = st.frozensets(st.sampled_from(["documents", "tool:one"]), min_size=1).map(Taint)


def _principal(*permissions: str) -> Principal:
    return Principal("tenant", "member", "name", frozenset({"member"}), frozenset(permissions), "key")


@given(policies, st.sampled_from(list(Effect)), taints)
def test_whatever_the_rules_say_a_tainted_run_never_acts_alone(policy: Policy, effect: Effect, taint: Taint) -> None:
    decision = policy.decide(_principal("p:w"), ToolRequest("one", effect, "p:w"), taint)
    assert effect is Effect.READ or not isinstance(decision, Allow)


@given(policies, st.sampled_from(list(Effect)))
def test_whatever_the_rules_say_a_missing_permission_denies(policy: Policy, effect: Effect) -> None:
    assert isinstance(policy.decide(_principal(), ToolRequest("one", effect, "p:w"), Taint()), Deny)


def test_what_no_rule_matches_is_denied() -> None:
    policy = Policy.of((Rule(id="reads", decision="allow", effects=(Effect.READ,), reason="r"),))
    decision = policy.decide(_principal("p:w"), ToolRequest("one", Effect.WRITE, "p:w"), Taint())
    assert decision == Deny("default-deny", "no rule allows this")


def test_the_default_rules_let_reads_through_and_ask_for_the_rest() -> None:
    policy = Policy.of(DEFAULT_RULES)
    decisions = {
        effect: policy.decide(_principal("p:w"), ToolRequest("one", effect, "p:w"), Taint()) for effect in Effect
    }
    assert isinstance(decisions[Effect.READ], Allow)
    assert all(isinstance(d, AskHuman) for effect, d in decisions.items() if effect is not Effect.READ)


def test_a_rule_may_widen_what_an_untainted_run_does_alone() -> None:
    policy = Policy.of((Rule(id="w", decision="allow", effects=(Effect.WRITE,), reason="r"),))
    request = ToolRequest("one", Effect.WRITE, "p:w")
    assert isinstance(policy.decide(_principal("p:w"), request, Taint()), Allow)
    assert isinstance(policy.decide(_principal("p:w"), request, Taint().with_source("documents")), AskHuman)


def test_the_version_changes_with_the_rules() -> None:
    assert Policy.of(DEFAULT_RULES).version != Policy.of(DEFAULT_RULES[:1]).version
