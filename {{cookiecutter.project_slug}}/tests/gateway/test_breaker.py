"""When a model is left alone, and when it is asked again."""

from contextlib import suppress
from datetime import timedelta

import pytest

from app.errors import AppError, BudgetExceeded, ModelRefused, ProviderRateLimited, ProviderRejected, ProviderTimeout
from app.gateway.breaker import Breaker, RetryBudget

REST = 30.0


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    return Breaker("m", faults=3, rest=timedelta(seconds=REST), clock=time)


def _call(breaker: Breaker, error: AppError | None = None) -> bool:
    """One call that ends so; whether it was let through."""
    if (admitted := breaker.admit()) is None:
        return False
    with suppress(AppError), admitted.watched():
        if error is not None:
            raise error
    return True


def _open(breaker: Breaker) -> None:
    for _ in range(3):
        assert _call(breaker, ProviderTimeout())


def test_faults_in_a_row_open_it_and_a_good_call_between_them_does_not(breaker: Breaker) -> None:
    for error in (ProviderTimeout(), ProviderTimeout(), None, ProviderTimeout(), ProviderTimeout()):
        assert _call(breaker, error)
    assert _call(breaker, ProviderTimeout())
    assert not _call(breaker)
    assert breaker.rests == timedelta(seconds=REST)


@pytest.mark.parametrize("answer", [ModelRefused(), ProviderRejected()])
def test_an_answer_that_is_not_liked_is_an_answer(breaker: Breaker, answer: AppError) -> None:
    for error in (ProviderTimeout(), ProviderTimeout(), answer, ProviderTimeout(), ProviderTimeout()):
        assert _call(breaker, error)
    assert _call(breaker)


def test_after_its_rest_one_call_decides(breaker: Breaker, time: Time) -> None:
    _open(breaker)
    time.now += REST
    trial = breaker.admit()
    assert trial is not None
    assert trial.is_trial
    time.now += 10 * REST  # however long it takes
    assert not _call(breaker), "one at a time"
    with suppress(AppError), trial.watched():
        raise ProviderTimeout
    assert not _call(breaker)
    time.now += REST
    assert _call(breaker)
    assert _call(breaker)


@pytest.mark.parametrize(
    "error", [BudgetExceeded("tenant", "tomorrow"), ProviderRateLimited(), AppError.__new__(AppError)]
)
def test_a_trial_that_tells_nothing_of_the_model_is_given_back(breaker: Breaker, time: Time, error: AppError) -> None:
    _open(breaker)
    time.now += REST
    assert _call(breaker, error)
    trial = breaker.admit()
    assert trial is not None
    assert trial.is_trial
    with trial.watched():
        pass
    assert _call(breaker)


def test_what_ends_after_the_breaker_opened_changes_nothing(breaker: Breaker, time: Time) -> None:
    late = breaker.admit()
    _open(breaker)
    time.now += REST
    assert _call(breaker)
    assert late is not None
    for _ in range(3):
        with suppress(AppError), late.watched():
            raise ProviderTimeout
    assert _call(breaker)


def test_retries_end_where_most_calls_fail_and_come_back_where_most_succeed() -> None:
    budget = RetryBudget()
    retried = 0
    for _ in range(1_000):
        budget.failed()
        retried += budget.allows
    assert retried < 10
    for _ in range(60):
        budget.succeeded()
    assert budget.allows
