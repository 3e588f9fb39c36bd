"""Asking the controller for the address of a blob."""

import threading

import pytest

from fleet_agent.errors import TransferError
from fleet_agent.transfer.questions import NotYetError, Questions
from fleet_agent.transfer.urls import BlobUrls
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, Digest

SHA = Digest("a" * 64)
AWAY = Failure(code="storage.unreachable", message="the store is away", hint="wait")


def ask(**answer: object) -> str:
    """Ask, and answer at once as a controller with these fields."""

    def send(fetch: Fetch) -> None:
        questions.answer(Chunk(request=fetch.request, sha256=fetch.sha256, **answer))  # type: ignore[arg-type]

    questions = Questions(send)
    urls = BlobUrls("http://controller:1/base", questions)
    return urls.ask(AssignmentId("a"), SHA, aborted=threading.Event())


def test_an_address_may_be_relative_to_the_controller() -> None:
    assert ask(url="http://store/x") == "http://store/x"
    assert ask(url="/api/v1/blobs/x") == "http://controller:1/api/v1/blobs/x"


def test_a_verdict_is_told_from_a_passing_trouble() -> None:
    with pytest.raises(TransferError) as caught:
        ask(failure=AWAY)
    assert (caught.value.code, caught.value.hint) == ("storage.unreachable", "wait")
    assert not isinstance(caught.value, NotYetError)
    with pytest.raises(NotYetError) as passing:
        ask(failure=AWAY, retry=True)
    assert passing.value.code == "storage.unreachable"


def test_an_abort_ends_the_waiting() -> None:
    aborted = threading.Event()
    asked: list[Fetch] = []

    def send(fetch: Fetch) -> None:
        asked.append(fetch)
        aborted.set()
        questions.answer(Chunk(request="another question", sha256=fetch.sha256, url="http://store/x"))

    questions = Questions(send, ask_again_s=0.01)
    urls = BlobUrls("http://controller:1", questions)
    with pytest.raises(TransferError) as caught:
        urls.ask(AssignmentId("a"), SHA, aborted=aborted)
    assert caught.value.code == "transfer.aborted"
    assert len(asked) == 1


def test_a_late_answer_is_as_good_and_the_same_question_is_asked_more_rarely() -> None:
    asked: list[Fetch] = []

    def send(fetch: Fetch) -> None:
        asked.append(fetch)
        if len(asked) == 3:
            questions.answer(Chunk(request=asked[0].request, sha256=fetch.sha256, url="http://store/late"))

    questions = Questions(send, ask_again_s=0.01)
    urls = BlobUrls("http://controller:1", questions)
    assert urls.ask(AssignmentId("a"), SHA, aborted=threading.Event()) == "http://store/late"
    assert len({fetch.request for fetch in asked}) == 1


def test_an_abort_does_not_wait_for_the_next_question() -> None:
    aborted, asked = threading.Event(), threading.Event()
    codes: list[str] = []

    def run() -> None:
        try:
            urls.ask(AssignmentId("a"), SHA, aborted=aborted)
        except TransferError as exc:
            codes.append(exc.code)

    questions = Questions(lambda _fetch: asked.set(), ask_again_s=600.0)
    urls = BlobUrls("http://controller:1", questions)
    thread = threading.Thread(target=run)
    thread.start()
    assert asked.wait(10)
    aborted.set()
    thread.join(20)
    assert codes == ["transfer.aborted"]


def test_no_answer_in_time_is_a_passing_trouble() -> None:
    questions = Questions(lambda _fetch: None, ask_again_s=0.01)
    with pytest.raises(NotYetError):
        questions.ask(Fetch(request="r", csr_pem="pem"), threading.Event(), within_s=0.05)


def test_content_comes_with_its_answer() -> None:
    questions = Questions(lambda fetch: questions.answer(Chunk(request=fetch.request), b"pem"))
    assert questions.ask(Fetch(request="r", csr_pem="pem"), threading.Event()).content == b"pem"
