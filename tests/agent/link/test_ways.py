"""Which way to the broker is tried when."""

from fleet_agent.link.ways import Way, Ways
from fleet_shared.messages.enrolment import BrokerAddress

V5, V4 = True, False


def walk(ways: Ways, *reached: bool) -> list[Way]:
    found = [ways.now]
    for one in reached:
        ways.choose_next(reached=one)
        found.append(ways.now)
    return found


def test_a_broker_with_tls_is_asked_with_tls_only() -> None:
    ways = Ways(BrokerAddress(host="b", port=1883, tls=True, mqtt5=True), may_secure=True)
    assert set(walk(ways, True, False, True, False, True)) == {Way(V5, True, 1883), Way(V4, True, 1883)}
    assert not ways.is_guess


def test_a_broker_that_answers_nothing_is_asked_in_the_other_version_and_then_with_tls() -> None:
    ways = Ways(BrokerAddress(host="b", port=7, tls=False, mqtt5=False), may_secure=True)
    plain, secure = [Way(V4, False, 7), Way(V5, False, 7)], [Way(V4, True, 7), Way(V5, True, 7)]
    assert walk(ways, True, True, True, True) == [*plain, *secure, plain[0]]
    assert walk(ways, False, False) == [plain[0]] * 3, "at another port than the usual one there is no other"


def test_a_guess_that_comes_to_nothing_is_left() -> None:
    """The handshake fails before the broker counts as reached."""
    ways = Ways(BrokerAddress(host="b", port=7, tls=False, mqtt5=False), may_secure=True)
    assert [way.tls for way in walk(ways, True, True, False, False)] == [False, False, True, True, False]


def test_a_broker_that_is_not_there_may_have_moved_to_the_port_of_tls() -> None:
    ways = Ways(BrokerAddress(host="b", port=1883, tls=False, mqtt5=False), may_secure=True)
    plain = Way(V4, False, 1883)
    assert walk(ways, False, True, False, False, False) == [
        plain, Way(V4, True, 8883), plain, Way(V5, True, 8883), plain, Way(V4, True, 8883)
    ]  # fmt: skip
    guess = ways.is_guess
    ways.keep()
    assert (guess, ways.is_guess) == (True, False)
    assert set(walk(ways, False, True, True)) == {Way(V4, True, 8883), Way(V5, True, 8883)}


def test_without_terms_for_tls_there_is_none() -> None:
    ways = Ways(BrokerAddress(host="b", port=1883, tls=False, mqtt5=True), may_secure=False)
    assert set(walk(ways, True, False, True, False)) == {Way(V5, False, 1883), Way(V4, False, 1883)}
