"""Blobs over HTTPS: from the controller's authorities or those of the system, by the device's time."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.tls import https_context
from fleet_agent.transfer.answer import Answer, Pace
from fleet_agent.transfer.response import AnswerError
from tests.agent.test_enrol_https import SecureController
from tests.agent.test_tls import time_in
from tests.kit.authority import Authority


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def url(tmp_path: Path, authority: Authority) -> Iterator[str]:
    with SecureController(tmp_path, authority, tells=b"a blob", ends_days=10).serving() as found:
        yield found


def fetch(url: str, trusted: Authority | None, days: float = 0) -> bytes:
    pem = "" if trusted is None else trusted.pem
    answer = Answer(url, {}, threading.Event(), Pace(), lambda: https_context(pem, lambda: time_in(days)))
    try:
        assert answer.head().status == 200
        return b"".join(answer.parts())
    finally:
        answer.close()


def test_a_store_of_the_controllers_authority_is_believed(url: str, authority: Authority) -> None:
    assert fetch(url, authority) == b"a blob"


@pytest.mark.parametrize("trusted", [None, Authority()])
def test_a_stranger_is_asked_for_nothing(url: str, trusted: Authority | None) -> None:
    with pytest.raises(AnswerError, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(url, trusted)


def test_one_whose_certificate_ended_is_asked_for_nothing(url: str, authority: Authority) -> None:
    with pytest.raises(AnswerError, match=r"ended 2\.0 days ago"):
        fetch(url, authority, days=12)
