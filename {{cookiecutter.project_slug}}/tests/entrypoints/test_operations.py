"""A worker is alive while the database path answers and its queue is polled; stuck for long, it ends itself."""

import asyncio
import threading
import time
from datetime import timedelta

import anyio
import pytest

from app.draining import Drain
from app.entrypoints.operations import Heartbeat, Watchdog, stuck_after
from app.errors import StoreAway
from app.runs.liveness import LOST_IDENTITY

DEADLINE = timedelta(seconds=0.5)


async def answers() -> None:
    """A database that is there."""


async def is_away() -> None:
    raise StoreAway


async def never_answers() -> None:
    await anyio.sleep_forever()


def _heartbeat(ping: object = answers, *, polling: bool = True) -> Heartbeat:
    made = Heartbeat(ping, Drain(), DEADLINE, is_polling=lambda: polling)  # type: ignore[arg-type]
    made.takes_work = True
    return made


def _after_some_beats(heartbeat: Heartbeat) -> Heartbeat:
    async def story() -> None:
        with anyio.move_on_after(2 * DEADLINE.total_seconds()):
            while True:
                await heartbeat.beat()
                await anyio.sleep(0.05)

    asyncio.run(story())
    return heartbeat


def test_a_worker_is_alive_and_ready_while_all_goes_well() -> None:
    heartbeat = _after_some_beats(_heartbeat())
    assert (heartbeat.trouble, heartbeat.unready) == ("", "")


def test_a_database_that_is_away_leaves_the_worker_alive() -> None:
    heartbeat = _after_some_beats(_heartbeat(is_away))
    assert (heartbeat.trouble, heartbeat.unready) == ("", "database unavailable")


def test_a_database_path_that_never_answers_is_trouble() -> None:
    assert _after_some_beats(_heartbeat(never_answers)).trouble == "no answer from the database path"


def test_a_queue_that_nobody_polls_is_trouble_unless_the_worker_drains() -> None:
    assert _after_some_beats(_heartbeat(polling=False)).trouble == "queue not polled"
    draining = _heartbeat(polling=False)
    draining.drain.begin()
    assert _after_some_beats(draining).trouble == ""
    assert draining.unready == "draining"


def test_a_worker_that_has_not_started_is_alive_and_unready() -> None:
    heartbeat = _heartbeat(polling=False)
    heartbeat.takes_work = False
    assert _after_some_beats(heartbeat).trouble == ""
    assert heartbeat.unready == "starting"


def test_the_watchdog_ends_the_process_after_twice_the_deadline() -> None:
    ended, codes = threading.Event(), list[int]()

    def exit_process(code: int) -> None:
        codes.append(code)
        ended.set()

    heartbeat = _heartbeat(never_answers)
    began = time.monotonic()
    watchdog = Watchdog(heartbeat, exit_process=exit_process)
    watchdog.start()
    assert ended.wait(30)
    assert codes == [LOST_IDENTITY]
    assert time.monotonic() - began > 2 * DEADLINE.total_seconds()


def test_the_watchdog_lets_a_worker_be_that_shows_life() -> None:
    codes = list[int]()
    heartbeat = _heartbeat()
    heartbeat.deadline = timedelta(seconds=30)
    watchdog = Watchdog(heartbeat, exit_process=codes.append)
    watchdog.start()
    watchdog.join(2.5)
    watchdog.stop()
    assert codes == []


@pytest.mark.parametrize("patience", [1, 10, 60])
def test_the_deadline_is_beyond_the_patience_of_the_database(patience: int) -> None:
    assert stuck_after(timedelta(seconds=patience)) >= timedelta(seconds=2 * patience + 10)
