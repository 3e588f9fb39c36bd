"""A time-out of the supervisor's queue holds, on every Python."""

import queue
import threading
import time

from fleet_agent.inbox import take


def test_no_wait_for_nothing_ever_lasts() -> None:
    """On Python 3.10 the queue's own time-out hangs within the first thousands of these."""
    done = threading.Event()

    def look() -> None:
        for _ in range(20_000):
            inbox: queue.SimpleQueue[int] = queue.SimpleQueue()
            inbox.put(1)
            assert take(inbox, 0) == 1
            assert take(inbox, 0) is None
        done.set()

    threading.Thread(target=look, daemon=True).start()
    assert done.wait(60), "it hangs"


def test_a_message_that_comes_is_taken_and_one_that_does_not_is_none() -> None:
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()
    began_s = time.monotonic()
    assert take(inbox, 0.05) is None
    assert time.monotonic() - began_s >= 0.05
    late = threading.Timer(0.05, inbox.put, ["late"])
    late.start()
    assert take(inbox, 30) == "late"
    late.join()
