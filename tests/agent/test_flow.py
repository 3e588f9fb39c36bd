"""How parts are asked for on links of all kinds: none is left idle, and none is filled with copies."""

import threading

import pytest

from fleet_agent.transfer import stream
from fleet_agent.transfer.flow import LENGTH_MIN, PATIENCE_MAX_S, WINDOW_MAX, Flow
from fleet_agent.transfer.stream import PartStream
from fleet_shared.limits import KIB, MIB, PART_BYTES
from fleet_shared.messages.fetch import Fetch
from tests.kit.virtual_link import VirtualLink

LASTS_S = 600.0


def test_quick_answers_widen_the_flow_and_slow_ones_narrow_it() -> None:
    flow = Flow()
    for _ in range(20):
        flow.answered(0.1)
    assert (flow.length, flow.window) == (PART_BYTES, WINDOW_MAX)
    flow.answered(2.0)
    assert (flow.length, flow.window) == (PART_BYTES, WINDOW_MAX), "neither quick nor slow"
    for _ in range(WINDOW_MAX - 1):
        flow.answered(9.0)
    assert (flow.length, flow.window) == (PART_BYTES, 1)
    for _ in range(20):
        flow.answered(9.0)
    assert (flow.length, flow.window) == (LENGTH_MIN, 1)


def test_a_long_way_is_no_slow_link() -> None:
    flow = Flow()
    for _ in range(20):
        flow.answered(6.0)
    assert (flow.length, flow.window) == (PART_BYTES, WINDOW_MAX)


def test_a_way_that_becomes_longer_is_learned() -> None:
    flow = Flow()
    for took_s in (*[0.1] * 20, *[6.0] * 120):
        flow.answered(took_s)
    assert (flow.length, flow.window) == (PART_BYTES, WINDOW_MAX)


def test_what_is_lost_is_waited_for_ever_longer_and_an_answer_ends_that() -> None:
    flow = Flow()
    patience = [flow.patience_s]
    for _ in range(5):
        flow.lost()
        patience.append(flow.patience_s)
    assert patience == [5.0, 10.0, 20.0, 40.0, PATIENCE_MAX_S, PATIENCE_MAX_S]
    flow.answered(3.0)
    assert flow.patience_s == 12.0


@pytest.mark.parametrize("delay_s", [0.005, 0.1, 0.7, 3.0])
@pytest.mark.parametrize("bytes_per_s", [100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0])
def test_a_link_of_any_kind_is_used_and_not_flooded(
    monkeypatch: pytest.MonkeyPatch, bytes_per_s: float, delay_s: float
) -> None:
    size = int(min(4 * MIB, max(20 * KIB, bytes_per_s * LASTS_S)))
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    link = VirtualLink(content, bytes_per_s, delay_s)
    monkeypatch.setattr(stream, "time", link)
    question = Fetch(request=link.name)
    parts = PartStream(link, link, question, threading.Event(), total=size)  # type: ignore[arg-type]
    assert b"".join(parts) == content
    link_s, way_s = size / bytes_per_s, size * delay_s / (WINDOW_MAX * PART_BYTES)
    assert link.now_s <= 2 * max(link_s, way_s) + 10 * delay_s, "the link is idle"
    assert link.sent_bytes <= 1.15 * size, "it carries copies"
