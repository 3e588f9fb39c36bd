"""Which way is tried next, and which never again."""

from fleet_agent.link.ways import Way, Ways

OLDER, NEWER = False, True


def test_a_broker_that_says_nothing_is_spoken_to_in_every_way_in_turn() -> None:
    ways = Ways(mqtt5=True, tls=False, can_secure=True)
    seen = []
    for _ in range(5):
        seen.append(ways.current)
        ways.next(reached=True)
    assert seen == [
        Way(NEWER, False),
        Way(OLDER, False),
        Way(NEWER, True),
        Way(OLDER, True),
        Way(NEWER, False),
    ]


def test_a_broker_that_is_not_there_is_asked_the_same_way_again() -> None:
    ways = Ways(mqtt5=False, tls=False, can_secure=True)
    ways.next(reached=False)
    assert ways.current == Way(OLDER, False)


def test_tls_on_trial_that_cannot_be_agreed_is_left_again() -> None:
    ways = Ways(mqtt5=False, tls=False, can_secure=True)
    for reached in (True, True, False, False):
        ways.next(reached=reached)
    assert ways.current == Way(OLDER, False)


def test_after_an_answer_by_tls_nothing_else_is_tried() -> None:
    ways = Ways(mqtt5=False, tls=False, can_secure=True)
    ways.next(reached=True)
    ways.next(reached=True)
    assert ways.settle(), "it is new"
    assert not ways.settle(), "and then it is not"
    for _ in range(4):
        assert ways.current.tls
        ways.next(reached=True)


def test_a_device_enrolled_with_tls_never_speaks_without() -> None:
    ways = Ways(mqtt5=False, tls=True, can_secure=True)
    for _ in range(4):
        assert ways.current.tls
        ways.next(reached=True)


def test_without_a_certificate_only_versions_are_tried() -> None:
    ways = Ways(mqtt5=True, tls=False, can_secure=False)
    ways.next(reached=True)
    assert ways.current == Way(OLDER, False)
    assert not ways.settle()
    ways.next(reached=True)
    assert ways.current == Way(NEWER, False)
