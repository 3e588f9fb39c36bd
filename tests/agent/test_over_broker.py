"""Blobs and release files in parts over a broker that loses, doubles, delays and mixes up messages, from a
controller that may lie."""

import hashlib
import itertools
import random
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec
import pytest

from fleet_agent.errors import SettingsError, TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer import stream
from fleet_agent.transfer.allowance import Allowance
from fleet_agent.transfer.answer import HttpSource
from fleet_agent.transfer.broker import BrokerFiles, BrokerSource
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.flow import WINDOW_MAX, Flow
from fleet_agent.transfer.policy import RETRIES_MAX
from fleet_agent.transfer.questions import NotYetError
from fleet_agent.transfer.response import Source
from fleet_agent.transfer.stream import UNASKED_MAX_BYTES
from fleet_agent.transfer.ways import (
    HTTP_AGAIN_S,
    MISSES_MAX,
    Reach,
    Transfers,
    choose_source,
    parse_transfers,
)
from fleet_shared.limits import KIB, PART_BYTES
from fleet_shared.messages.fetch import Chunk, Fetch
from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, Digest
from tests.kit.blob_server import blob_server, status
from tests.kit.part_controller import PartController, Reply, Way, honest
from tests.kit.ports import free_port

BODY = bytes(range(256)) * 5000
SHA = Digest(hashlib.sha256(BODY).hexdigest())
A = AssignmentId("a-1")
STALL_S = 20.0
"""Longer than any test waits: whoever waits for the end of it fails."""
NEVER_S = 1000.0


def impatient() -> Flow:
    return Flow(patience_min_s=0.02, patience_max_s=0.05)


def patient() -> Flow:
    return Flow(patience_min_s=NEVER_S, patience_max_s=NEVER_S)


def downloader(
    source: Source,
    folder: Path,
    *,
    allowance: Allowance | None = None,
    aborted: threading.Event | None = None,
) -> Downloader:
    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    return Downloader(folder, source, lambda _count: None, aborted or threading.Event(), no_wait, allowance)


def over_broker(controller: PartController, flow: Flow | None = None) -> BrokerSource:
    return BrokerSource(controller.questions, A, flow or impatient())


def fail(source: Source, folder: Path) -> str:
    with pytest.raises(TransferError) as caught:
        downloader(source, folder).fetch(SHA, len(BODY))
    assert caught.value.hint
    return caught.value.code


# -- ways to be honest


class Lossy:
    """Loses every third answer."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, controller: PartController, fetch: Fetch) -> list[Reply]:
        self.count += 1
        return [] if self.count % 3 == 0 else honest(controller, fetch)


class Swapping:
    """Holds back each second answer until the one after it has gone."""

    def __init__(self) -> None:
        self.held: list[Reply] = []

    def __call__(self, controller: PartController, fetch: Fetch) -> list[Reply]:
        if (
            self.held
            or fetch.part is None
            or fetch.part.offset + fetch.part.length >= len(controller.content)
        ):
            held, self.held = self.held, []
            return [controller.reply(fetch), *held]
        self.held = [controller.reply(fetch)]
        return []


class Late:
    """Answers each question with the next one, as a link does that is slower than it is waited for."""

    def __init__(self) -> None:
        self.held: list[Reply] = []

    def __call__(self, controller: PartController, fetch: Fetch) -> list[Reply]:
        late, self.held = self.held, [controller.reply(fetch)]
        return late


class Chaotic:
    def __init__(self, seed: int) -> None:
        self.random, self.held = random.Random(seed), list[Reply]()

    def __call__(self, controller: PartController, fetch: Fetch) -> list[Reply]:
        self.held += [controller.reply(fetch)] * self.random.choice([0, 1, 1, 1, 2])
        self.random.shuffle(self.held)
        count = self.random.randint(0, len(self.held))
        out, self.held = self.held[:count], self.held[count:]
        return out


def doubled(controller: PartController, fetch: Fetch) -> list[Reply]:
    return [controller.reply(fetch)] * 2 if len(controller.asked) % 4 == 0 else honest(controller, fetch)


@pytest.mark.parametrize(
    "way",
    [honest, Lossy(), Swapping(), Late(), doubled, *(Chaotic(seed) for seed in range(4))],
    ids=["honest", "lossy", "swapping", "late", "doubled", *(f"chaotic {seed}" for seed in range(4))],
)
@pytest.mark.parametrize("start", [0, 100_001, len(BODY) - 1])
def test_whatever_becomes_of_messages_the_blob_arrives(tmp_path: Path, way: Way, start: int) -> None:
    controller = PartController(BODY, always=way)
    if start:
        (tmp_path / f"{SHA}.part").write_bytes(BODY[:start])
    path, counted = downloader(over_broker(controller), tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.resumed == start
    assert counted.fetched == counted.over_broker == len(BODY) - start
    assert controller.offsets[0] == start
    assert [file.name for file in tmp_path.iterdir()] == [SHA]


class Steady:
    """Every answer takes as long as the others, whatever else the machine does."""

    def __init__(self) -> None:
        self._ticks = count()

    def monotonic(self) -> float:
        return next(self._ticks) * 1e-6


def test_few_are_asked_for_at_once_and_ever_more_while_answers_are_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "time", Steady())
    outstanding: list[int] = []
    held: list[Reply] = []

    def slow(controller: PartController, fetch: Fetch) -> list[Reply]:
        held.append(controller.reply(fetch))
        outstanding.append(len(held))
        return []

    controller, done, flow = PartController(BODY, always=slow), threading.Event(), patient()

    def all_is_asked() -> bool:
        """As much as may be asked for before an answer has come."""
        asked = sum(fetch.part.length for fetch in controller.asked if fetch.part is not None)
        return len(held) >= flow.window or asked == len(BODY)

    def run() -> None:
        downloader(over_broker(controller, flow), tmp_path).fetch(SHA, len(BODY))
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not done.is_set():
        controller.some.wait(0.05)
        if held and all_is_asked():
            controller.deliver(*held.pop(0))
    thread.join()
    assert outstanding[0] == 1
    assert max(outstanding) == WINDOW_MAX
    lengths = [fetch.part.length for fetch in controller.asked if fetch.part is not None]
    assert lengths[0] == 4 * KIB
    assert max(lengths) == PART_BYTES
    assert sum(lengths) == len(BODY), "nothing was asked for twice"


def test_each_question_names_the_assignment_and_the_blob(tmp_path: Path) -> None:
    controller = PartController(BODY)
    downloader(over_broker(controller), tmp_path).fetch(SHA, len(BODY))
    assert {(fetch.assignment, fetch.sha256, fetch.file) for fetch in controller.asked} == {(A, SHA, None)}
    assert len({fetch.request for fetch in controller.asked}) == len(controller.asked)


def test_a_new_connection_asks_again_at_once(tmp_path: Path) -> None:
    """What is outstanding is waited for much longer than this test lasts."""
    controller = PartController(BODY, always=lambda _controller, _fetch: [])
    thread = threading.Thread(
        target=lambda: downloader(over_broker(controller, patient()), tmp_path).fetch(SHA, len(BODY))
    )
    thread.start()
    assert controller.some.wait(STALL_S)
    controller.always = honest
    controller.questions.connected()
    thread.join(STALL_S)
    assert not thread.is_alive()
    assert (tmp_path / SHA).read_bytes() == BODY
    assert controller.offsets[:2] == [0, 0]


def test_a_question_alone_is_asked_again_at_once_too() -> None:
    controller = PartController(b"", always=lambda _controller, _fetch: [])
    controller.questions.ask_again_s = NEVER_S
    found: list[str | None] = []

    def run() -> None:
        found.append(controller.questions.ask(Fetch(request="r", sha256=SHA), threading.Event()).chunk.url)

    thread = threading.Thread(target=run)
    thread.start()
    assert controller.some.wait(STALL_S)
    controller.always = lambda _controller, fetch: [(Chunk(request=fetch.request, url="u"), None)]
    controller.questions.connected()
    thread.join(STALL_S)
    assert found == ["u"]


def test_an_abort_ends_the_waiting(tmp_path: Path) -> None:
    controller, aborted = PartController(BODY, always=lambda _controller, _fetch: []), threading.Event()
    codes: list[str] = []

    def run() -> None:
        try:
            source = over_broker(controller, patient())
            downloader(source, tmp_path, aborted=aborted).fetch(SHA, len(BODY))
        except TransferError as exc:
            codes.append(exc.code)

    thread = threading.Thread(target=run)
    thread.start()
    assert controller.some.wait(STALL_S)
    aborted.set()
    thread.join(STALL_S)
    assert codes == ["transfer.aborted"]
    assert controller.questions._open == {}, "nobody listens any more"


# -- what is counted


def test_every_byte_that_came_counts_against_the_budget(tmp_path: Path) -> None:
    allowance = Allowance(tmp_path / "spent.json", A, None)
    controller = PartController(BODY, always=doubled)
    downloader(over_broker(controller), tmp_path / "downloads", allowance=allowance).fetch(SHA, len(BODY))
    # What comes after the last byte that was missing finds nobody.
    assert len(BODY) < controller.sent_bytes - PART_BYTES <= allowance.spent <= controller.sent_bytes


def test_a_download_that_would_exceed_the_budget_is_not_begun(tmp_path: Path) -> None:
    controller = PartController(BODY)
    allowance = Allowance(tmp_path / "spent.json", A, len(BODY) - 1)
    with pytest.raises(TransferError) as caught:
        downloader(over_broker(controller), tmp_path, allowance=allowance).fetch(SHA, len(BODY))
    assert (caught.value.code, controller.asked) == ("transfer.budget", [])


# -- controllers that lie or are in trouble


def says(**fields: object) -> Way:
    def way(controller: PartController, fetch: Fetch) -> list[Reply]:
        chunk, content = controller.reply(fetch)
        return [(msgspec.structs.replace(chunk, **fields), content)]

    return way


def endless(controller: PartController, fetch: Fetch) -> list[Reply]:
    return [(Chunk(request=f"{fetch.request}x", offset=2**40, total_bytes=len(BODY)), bytes(PART_BYTES))] * 3


def flipped(controller: PartController, fetch: Fetch) -> list[Reply]:
    chunk, content = controller.reply(fetch)
    return [(chunk, bytes([(content or b"x")[0] ^ 1]) + (content or b"x")[1:])]


LIES: dict[str, tuple[str, Way]] = {
    "other bytes": ("transfer.digest", flipped),
    "endless data": ("transfer.too_long", endless),
    "another length of the file": ("transfer.retries", says(total_bytes=len(BODY) + 1)),
    "no length of the file": ("transfer.retries", says(total_bytes=None)),
    "a part from beside": ("transfer.retries", lambda c, f: [c.reply(f, shift=1)]),
    "a short part": ("transfer.retries", lambda c, f: [c.reply(f, cut=1)]),
    "an empty part": ("transfer.retries", lambda c, f: [(c.reply(f)[0], b"")]),
    "another place than it is from": ("transfer.retries", says(offset=2**40)),
    "an older controller, which gives an address": (
        "transfer.retries",
        lambda _, f: [(Chunk(request=f.request, url="http://store/x"), None)],
    ),
    "no right": ("fetch.forbidden", says(failure=Failure(code="fetch.forbidden", message="no", hint="h"))),
    "in trouble for ever": (
        "transfer.retries",
        says(failure=Failure(code="storage.unreachable", message="away"), retry=True),
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_whatever_a_controller_says_a_download_ends(tmp_path: Path, lie: str) -> None:
    code, way = LIES[lie]
    controller = PartController(BODY, always=way)
    assert fail(over_broker(controller), tmp_path / "downloads") == code
    assert len(controller.asked) <= RETRIES_MAX + 30
    assert controller.sent_bytes <= len(BODY) + UNASKED_MAX_BYTES + 8 * PART_BYTES


def test_a_controller_in_passing_trouble_is_asked_again(tmp_path: Path) -> None:
    away = says(failure=Failure(code="storage.unreachable", message="away"), retry=True)
    controller = PartController(BODY, script=[honest, away, honest, away])
    path, _ = downloader(over_broker(controller), tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY


# -- either way


def either(http: HttpSource, controller: PartController, reach: Reach, now_s: Callable[[], float]) -> Source:
    return choose_source(Transfers.AUTO, http, over_broker(controller), reach, now_s)


def test_without_a_server_that_answers_blobs_come_over_the_broker(tmp_path: Path) -> None:
    controller, asked, now_s = PartController(BODY), list[str](), [0.0]
    port = free_port()

    def url_of(sha256: Digest) -> str:
        asked.append(sha256)
        return f"http://127.0.0.1:{port}/"

    reach = Reach()
    source = either(HttpSource(url_of), controller, reach, lambda: now_s[0])
    path, counted = downloader(source, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert (len(asked), counted.over_broker) == (MISSES_MAX, len(BODY))
    path.unlink()
    again = either(HttpSource(url_of), controller, reach, lambda: now_s[0])
    downloader(again, tmp_path).fetch(SHA, len(BODY))
    assert len(asked) == MISSES_MAX, "it is known from before"
    path.unlink()
    now_s[0] += HTTP_AGAIN_S + 1
    with blob_server(BODY) as server:
        later = either(HttpSource(server.url_of), controller, reach, lambda: now_s[0])
        _, counted = downloader(later, tmp_path).fetch(SHA, len(BODY))
    assert counted.over_broker == 0, "after a while HTTP is tried again"


def test_what_came_over_http_goes_on_over_the_broker_and_back(tmp_path: Path) -> None:
    controller, now_s = PartController(BODY), [0.0]
    with blob_server(BODY) as server:
        server.script = [lambda handler: server.send(handler, cut=500_000)]

        def url_of(sha256: Digest) -> str:
            return server.url_of(sha256) if not server.ranges else f"http://127.0.0.1:{free_port()}/"

        source = either(HttpSource(url_of), controller, Reach(), lambda: now_s[0])
        path, counted = downloader(source, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert (counted.fetched, counted.over_broker) == (len(BODY), len(BODY) - 500_000)


def test_while_the_broker_is_used_http_is_tried_now_and_then(tmp_path: Path) -> None:
    controller, now_s, tried = PartController(BODY), [0.0], list[float]()

    def url_of(_sha256: Digest) -> str:
        tried.append(now_s[0])
        return f"http://127.0.0.1:{free_port()}/"

    http = HttpSource(url_of)
    source = choose_source(Transfers.AUTO, http, over_broker(controller), Reach(), lambda: now_s[0])
    source.broker = BrokerSource(controller.questions, A, impatient(), lasts_s=0.0)  # type: ignore[attr-defined]

    def progress(count: int) -> None:
        now_s[0] += HTTP_AGAIN_S / 3

    one = downloader(source, tmp_path)
    one.progress = progress
    path, _ = one.fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert len(tried) > MISSES_MAX
    assert all(later - earlier >= HTTP_AGAIN_S for earlier, later in itertools.pairwise(tried[1:]))


def test_a_server_that_refuses_is_in_reach(tmp_path: Path) -> None:
    controller = PartController(BODY)
    with blob_server(BODY) as server:
        server.always = status(503, Retry_After="0")
        assert (
            fail(either(HttpSource(server.url_of), controller, Reach(), lambda: 0.0), tmp_path)
            == "transfer.retries"
        )
        server.always = status(404)
        assert (
            fail(either(HttpSource(server.url_of), controller, Reach(), lambda: 0.0), tmp_path)
            == "transfer.not_found"
        )
    assert controller.asked == []


def test_the_way_can_be_laid_down(tmp_path: Path) -> None:
    controller = PartController(BODY)
    with blob_server(BODY) as server:
        http, broker = HttpSource(server.url_of), over_broker(controller)
        assert choose_source(Transfers.HTTP, http, broker, Reach(), lambda: 0.0) is http
        assert choose_source(Transfers.MQTT, http, broker, Reach(), lambda: 0.0) is broker
    assert [parse_transfers(text) for text in ("auto", "http", "mqtt")] == list(Transfers)
    with pytest.raises(SettingsError, match="transfers") as caught:
        parse_transfers("pigeon")
    assert "mqtt" in caught.value.hint


# -- release files


def files(controller: PartController, silence_s: float = NEVER_S) -> BrokerFiles:
    return BrokerFiles(controller.questions, silence_s)


@pytest.mark.parametrize("size", [0, 1, 4 * KIB, 4 * KIB + 1, 500_000])
def test_a_release_file_arrives_whole(size: int) -> None:
    controller = PartController(BODY[:size])
    assert files(controller).fetch_file("metadata/timestamp.json", 500_000) == BODY[:size]
    assert {fetch.file for fetch in controller.asked} == {"metadata/timestamp.json"}


def test_a_release_file_that_is_too_long_is_not_fetched() -> None:
    controller = PartController(BODY)
    with pytest.raises(TransferError) as caught:
        files(controller).fetch_file("metadata/1.root.json", len(BODY) - 1)
    assert (caught.value.code, len(controller.asked)) == ("transfer.too_long", 1)


def test_a_release_file_that_changes_on_its_way_is_asked_for_later() -> None:
    def changes(controller: PartController, fetch: Fetch) -> list[Reply]:
        controller.total = 400_000 + len(controller.asked)
        return honest(controller, fetch)

    with pytest.raises(NotYetError):
        files(PartController(BODY, always=changes)).fetch_file("metadata/timestamp.json", 10**6)


def test_the_controller_s_word_on_a_release_file_is_passed_on() -> None:
    failure = Failure(code="release.unknown", message="nothing", hint="h")
    with pytest.raises(TransferError) as caught:
        files(PartController(BODY, always=says(failure=failure))).fetch_file("metadata/9.root.json", 10**6)
    assert (caught.value.code, isinstance(caught.value, NotYetError)) == ("release.unknown", False)


def test_a_release_file_is_not_waited_for_for_ever() -> None:
    controller = PartController(BODY, always=lambda _controller, _fetch: [])
    stream_flow = Flow(patience_min_s=0.02)
    with pytest.raises(NotYetError, match="nothing came"):
        BrokerFiles(controller.questions, 0.1, lambda: stream_flow).fetch_file(
            "metadata/timestamp.json", 10**6
        )
