"""Downloads against a real HTTP server that misbehaves on purpose."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from fleet_agent.errors import TransferError
from fleet_agent.link.backoff import Backoff
from fleet_agent.transfer.answer import HttpSource
from fleet_agent.transfer.download import Downloader
from fleet_agent.transfer.policy import RETRIES_MAX, Step, decide_step, parse_retry_after_s
from fleet_agent.transfer.questions import NotYetError
from fleet_cloud.adapters.storage.bucket import S3Address
from fleet_cloud.adapters.storage.s3 import S3Blobs
from fleet_shared.names import Digest
from tests.kit.blob_server import BlobServer, Handler, blob_server, content, status
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore

BODY = bytes(range(256)) * 2000
SHA = Digest(hashlib.sha256(BODY).hexdigest())

Answer = Callable[[Handler], None]


@pytest.fixture
def server() -> Iterator[BlobServer]:
    with blob_server(BODY) as running:
        yield running


@dataclass
class Heard:
    """What a download says of its progress; it must never exceed the total."""

    total: int = 0

    def __call__(self, count: int) -> None:
        self.total += count
        assert 0 <= self.total <= len(BODY)


def downloader(server: BlobServer, folder: Path) -> Downloader:
    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    return Downloader(folder, HttpSource(server.url_of), Heard(), threading.Event(), no_wait)


def test_a_whole_blob_arrives_and_is_not_fetched_twice(server: BlobServer, tmp_path: Path) -> None:
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert (counted.fetched, counted.resumed) == (len(BODY), 0)
    _, again = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert (again.fetched, again.resumed) == (0, len(BODY))
    assert len(server.ranges) == 1


def test_a_cut_connection_is_resumed_where_it_stood(server: BlobServer, tmp_path: Path) -> None:
    server.script = [content(BODY[:100_000], announced=len(BODY))]
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.fetched == len(BODY)
    assert server.ranges == [None, "bytes=100000-"]


def test_a_server_that_ignores_ranges_starts_the_file_anew(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(b"x" * 1000)
    server.script = [content(BODY)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY


def test_416_starts_over_once_and_then_fails(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(BODY[:1000])
    server.script = [status(416)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    path.unlink()
    server.script = [status(416), status(416)]
    with pytest.raises(TransferError):
        downloader(server, tmp_path).fetch(SHA, len(BODY))


def test_a_flipped_byte_is_refused_and_nothing_is_kept(server: BlobServer, tmp_path: Path) -> None:
    server.script = [content(BODY[:5000] + bytes([BODY[5000] ^ 1]) + BODY[5001:])]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.digest"
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_promised_end_the_download(server: BlobServer, tmp_path: Path) -> None:
    server.script = [content(BODY + b"more")]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.too_long"


@pytest.mark.parametrize(("code", "name"), [(404, "transfer.not_found"), (410, "transfer.gone")])
def test_a_missing_blob_is_final(server: BlobServer, tmp_path: Path, code: int, name: str) -> None:
    server.script = [status(code)]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == name
    assert len(server.ranges) == 1


def test_a_forbidden_url_gets_one_fresh_one(server: BlobServer, tmp_path: Path) -> None:
    server.script = [status(403)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert server.urls == 2
    path.unlink()
    server.script = [status(403), status(403)]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.refused"


def test_a_busy_server_is_tried_again_and_the_retries_have_a_budget(
    server: BlobServer, tmp_path: Path
) -> None:
    server.script = [status(503), status(429, Retry_After="0"), status(500)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    path.unlink()
    server.script = [status(503)] * (RETRIES_MAX + 1)
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.retries"


def test_an_abort_reaches_a_waiting_download(server: BlobServer, tmp_path: Path) -> None:
    server.script = [status(503, Retry_After="300")]
    one = downloader(server, tmp_path)
    one.aborted.set()
    with pytest.raises(TransferError) as caught:
        one.fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.aborted"


@pytest.mark.parametrize(
    ("code", "step"),
    [(200, Step.WHOLE), (206, Step.APPEND), (400, Step.FAIL), (401, Step.FRESH_URL), (404, Step.FAIL),
     (408, Step.RETRY), (416, Step.RESTART), (418, Step.FAIL), (425, Step.RETRY), (429, Step.RETRY),
     (500, Step.RETRY), (599, Step.RETRY)],
)  # fmt: skip
def test_steps(code: int, step: Step) -> None:
    assert decide_step(code) is step


def test_retry_after_is_bounded() -> None:
    assert parse_retry_after_s("7") == 7
    assert parse_retry_after_s("99999") == 300
    assert parse_retry_after_s("Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert parse_retry_after_s(None) is None
    assert parse_retry_after_s("9" * 5000) == 300
    for odd in ("\u00b2", "-1", "1.5", "", "\u0663"):
        assert parse_retry_after_s(odd) is None


@pytest.mark.parametrize(
    ("status_code", "content_range", "have", "step"),
    [
        (206, "bytes 5-9/10", 5, Step.APPEND),
        (200, "bytes 5-9/10", 5, Step.APPEND),
        (206, "bytes 5-9/*", 5, Step.APPEND),
        (206, None, 5, Step.APPEND),
        (200, None, 5, Step.WHOLE),
        (206, "bytes 4-9/10", 5, Step.RESTART),
        (200, "bytes 0-9/10", 5, Step.RESTART),
        (206, "bytes */10", 5, Step.RESTART),
        (206, "items 5-9/10", 5, Step.RESTART),
        (206, "bytes \u0665-9/10", 5, Step.RESTART),
    ],
)
def test_what_follows_is_what_content_range_says(
    status_code: int, content_range: str | None, have: int, step: Step
) -> None:
    assert decide_step(status_code, content_range, have) is step


GOOD = "good"
TROUBLES: dict[str, tuple[str, Callable[[BlobServer], Answer]]] = {
    "honest": (GOOD, lambda server: server.honest),
    "200 for a range, as rclone": (GOOD, lambda server: partial(server.send, ranged_status=200)),
    "cut every 20 kB": (GOOD, lambda server: partial(server.send, cut=20_000)),
    "cut, and 200 for ranges": (GOOD, lambda server: partial(server.send, cut=90_000, ranged_status=200)),
    "206 without a range said": (GOOD, lambda server: partial(server.send, cut=90_000, say_range=False)),
    "nothing": ("transfer.retries", lambda server: partial(server.send, cut=0)),
    "an empty 200": ("transfer.retries", lambda _: content(b"")),
    "a short 200": ("transfer.retries", lambda _: content(BODY[:1000])),
    "the same short cut again and again": (
        "transfer.retries",
        lambda _: content(BODY[:1000], announced=len(BODY)),
    ),
    "short ranges": ("transfer.retries", lambda server: partial(server.send, upto=200_000)),
    "always 416": ("transfer.refused", lambda _: status(416)),
    "always 403": ("transfer.refused", lambda _: status(403)),
    "always 401": ("transfer.refused", lambda _: status(401)),
    "always 404": ("transfer.not_found", lambda _: status(404)),
    "always 410": ("transfer.gone", lambda _: status(410)),
    "always 400": ("transfer.refused", lambda _: status(400)),
    "always 302": ("transfer.refused", lambda _: status(302, Location="/elsewhere")),
    "always 408": ("transfer.retries", lambda _: status(408)),
    "always 425": ("transfer.retries", lambda _: status(425)),
    "always 429": ("transfer.retries", lambda _: status(429, Retry_After="0")),
    "always 503": ("transfer.retries", lambda _: status(503, Retry_After="0")),
}
REQUESTS_MAX = len(BODY) // 20_000 + 2 * RETRIES_MAX


@pytest.mark.parametrize("start", [0, 1, 100_000, len(BODY) - 1])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_a_server_does_a_download_ends(
    server: BlobServer, tmp_path: Path, trouble: str, start: int
) -> None:
    expected, make = TROUBLES[trouble]
    server.always = make(server)
    if start:
        (tmp_path / f"{SHA}.part").write_bytes(BODY[:start])
    one = downloader(server, tmp_path)
    if expected == GOOD:
        path, counted = one.fetch(SHA, len(BODY))
        assert path.read_bytes() == BODY
        assert counted.fetched + counted.resumed == len(BODY) == one.progress.total  # type: ignore[attr-defined]
        assert counted.resumed == start
        assert [file.name for file in tmp_path.iterdir()] == [SHA]
    else:
        with pytest.raises(TransferError) as caught:
            one.fetch(SHA, len(BODY))
        assert caught.value.code == expected
    assert len(server.ranges) <= REQUESTS_MAX


def test_a_range_from_another_place_starts_over_once(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(BODY[:1000])
    server.script = [partial(server.send, shift=-10)]
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.resumed == 0
    path.unlink()
    (tmp_path / f"{SHA}.part").write_bytes(BODY[:1000])
    cut = partial(server.send, cut=1000)
    server.script = [partial(server.send, shift=-10), cut, partial(server.send, shift=5)]
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.refused"


def test_a_resume_names_the_answer_that_began_the_file(server: BlobServer, tmp_path: Path) -> None:
    server.script = [partial(server.send, cut=100_000), status(404)]
    with pytest.raises(TransferError):
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    _, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert server.if_ranges == [None, '"one"', '"one"']
    assert counted.resumed == 100_000


@pytest.mark.parametrize("etag", [None, 'W/"weak"', "no quotes", '"' + "x" * 500 + '"'])
def test_without_a_strong_etag_the_digest_decides(
    server: BlobServer, tmp_path: Path, etag: str | None
) -> None:
    server.etag = etag
    server.script = [partial(server.send, cut=100_000)]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert server.if_ranges == [None, None]


def test_a_file_that_changed_at_the_store_is_taken_anew(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(b"x" * 1000)
    (tmp_path / f"{SHA}.etag").write_text('"older"')
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.resumed == 0
    assert server.ranges == ["bytes=1000-"]


def test_a_server_that_does_not_look_at_if_range_is_seen_by_its_etag(
    server: BlobServer, tmp_path: Path
) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(b"x" * 1000)
    (tmp_path / f"{SHA}.etag").write_text('"older"')

    def careless(handler: Handler) -> None:
        del handler.headers["If-Range"]
        server.send(handler)

    server.script = [careless]
    path, _ = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("torn", [b"\0" * 1000, BODY[:900] + b"\0" * 100, b"\0" * (len(BODY) + 1)])
def test_a_torn_part_is_no_fault_of_the_store(server: BlobServer, tmp_path: Path, torn: bytes) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(torn)
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert counted.resumed == 0


def test_a_torn_whole_file_is_fetched_anew(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / SHA).write_bytes(BODY[:-100] + b"\0" * 100)
    path, counted = downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    assert (counted.fetched, counted.resumed) == (len(BODY), 0)


def test_a_damaged_store_fails_after_a_resume_too(server: BlobServer, tmp_path: Path) -> None:
    (tmp_path / f"{SHA}.part").write_bytes(BODY[:1000])
    server.body = BODY[:-1] + b"?"
    with pytest.raises(TransferError) as caught:
        downloader(server, tmp_path).fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.digest"
    assert len(server.ranges) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_controller_that_cannot_say_where_is_asked_again(server: BlobServer, tmp_path: Path) -> None:
    away = NotYetError("the store is away", code="storage.unreachable")
    answers: list[Exception] = [away, away]

    def url_of(sha256: Digest) -> str:
        if answers:
            raise answers.pop()
        return server.url_of(sha256)

    one = downloader(server, tmp_path)
    one.source = HttpSource(url_of)
    path, _ = one.fetch(SHA, len(BODY))
    assert path.read_bytes() == BODY
    path.unlink()
    answers += [away] * (RETRIES_MAX + 1)
    with pytest.raises(TransferError, match="the store is away") as caught:
        one.fetch(SHA, len(BODY))
    assert caught.value.code == "transfer.retries"


def test_an_empty_blob_needs_no_server(tmp_path: Path) -> None:
    empty = Digest(hashlib.sha256(b"").hexdigest())
    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    one = Downloader(
        tmp_path, HttpSource(lambda _: pytest.fail("asked")), Heard(), threading.Event(), no_wait
    )
    assert one.fetch(empty, 0)[0].read_bytes() == b""


def test_a_download_from_a_real_object_store_is_resumed(s3: ObjectStore, tmp_path: Path) -> None:
    store = S3Blobs(S3Address("models", "d/", s3.endpoint, "us-east-1", ACCESS_KEY, SECRET_KEY))
    store.put(SHA, iter([BODY]))

    def url_of(sha256: Digest) -> str:
        url = store.presigned_url(sha256, 60)
        assert url is not None
        return url

    no_wait = Backoff(0.0, 0.0, lambda: 0.0)
    aborted = threading.Event()

    def stop(count: int) -> None:
        if count:
            aborted.set()

    with pytest.raises(TransferError):
        Downloader(tmp_path, HttpSource(url_of), stop, aborted, no_wait).fetch(SHA, len(BODY))
    had = (tmp_path / f"{SHA}.part").stat().st_size
    assert 0 < had < len(BODY)
    assert (tmp_path / f"{SHA}.etag").exists()
    path, counted = Downloader(tmp_path, HttpSource(url_of), Heard(), threading.Event(), no_wait).fetch(
        SHA, len(BODY)
    )
    assert path.read_bytes() == BODY
    assert (counted.resumed, counted.fetched) == (had, len(BODY) - had)
