"""How long to wait before the next try."""

from fleet_agent.link.backoff import Backoff


def test_waits_double_up_to_the_ceiling_and_begin_anew_after_success() -> None:
    backoff = Backoff(1.0, 60.0, lambda: 1.0)
    assert [backoff.next_delay_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next_delay_s() == 1


def test_at_least_half_of_it_is_waited_whatever_the_dice_say() -> None:
    low, middle = Backoff(2.0, 60.0, lambda: 0.0), Backoff(2.0, 60.0, lambda: 0.5)
    assert [low.next_delay_s(), low.next_delay_s()] == [1, 2]
    assert middle.next_delay_s() == 1.5


def test_a_thousand_tries_do_not_overflow() -> None:
    backoff = Backoff(1.0, 60.0, lambda: 1.0)
    assert {backoff.next_delay_s() for _ in range(2000)} == {1, 2, 4, 8, 16, 32, 60}
