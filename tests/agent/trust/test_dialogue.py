"""The trust child and its supervisor: frames, files over another way than HTTP, deadlines, aborts."""

import io
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.errors import LaterError, TransferError
from fleet_agent.trust import framing
from fleet_agent.trust.framing import FrameError, read_frame, write_frame
from fleet_agent.trust.protocol import KeyMade, MakeKey, Refresh, Refreshed, Refused
from fleet_agent.trust_process import TrustProcess
from tests.kit.device_edges import make_manifest
from tests.kit.releases import Releases
from tests.kit.trusting import PI, TrustingDevice
from tests.kit.waiting import wait_for


def test_frames_come_as_they_went() -> None:
    stream = io.BytesIO()
    for content in (b"", b"{}", b"x" * 100_000):
        write_frame(stream, content)
    stream.seek(0)
    assert [read_frame(stream) for _ in range(4)] == [b"", b"{}", b"x" * 100_000, None]


@pytest.mark.parametrize(
    "raw", [b"\0", b"\0\0\0", b"\0\0\0\5abc", b"\xff\xff\xff\xff", b"\x01\0\0\1" + b"x" * 9]
)
def test_a_frame_that_is_cut_off_or_too_long_is_none(raw: bytes) -> None:
    with pytest.raises(FrameError):
        read_frame(io.BytesIO(raw))


def test_what_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "FRAME_BYTES_MAX", 10)
    with pytest.raises(FrameError):
        write_frame(io.BytesIO(), b"x" * 11)


@pytest.fixture
def releases() -> Iterator[Releases]:
    found = Releases()
    with found.serving():
        yield found


class Broker:
    """What brings files at the broker; ``asked`` are the questions."""

    def __init__(self, releases: Releases) -> None:
        self.releases, self.asked = releases, list[tuple[str, int]]()
        self.away = False

    def fetch_file(self, path: str, length_max: int) -> bytes:
        self.asked.append((path, length_max))
        if self.away:
            raise LaterError("nobody answers")
        if path not in self.releases.files:
            raise TransferError("no such file", code="fetch.unknown")
        return self.releases.files[path]


@pytest.fixture
def device(tmp_path: Path, releases: Releases) -> TrustingDevice:
    found = TrustingDevice(tmp_path / "device", releases, process=True)
    found.manifest = releases.release_manifest(make_manifest("1.0.0"))
    return found


def test_where_http_is_out_of_reach_the_broker_brings_all_files(
    device: TrustingDevice, releases: Releases
) -> None:
    broker = Broker(releases)
    device.ask = broker.fetch_file
    releases.url = "http://127.0.0.1:9"
    assert set(device.accepts().manifests) == {device.manifest}
    asked = [path for path, _ in broker.asked]
    assert "metadata/timestamp.json" in asked
    assert f"targets/manifests/{device.manifest}.{device.manifest}.json" in asked
    assert dict(broker.asked)["metadata/timestamp.json"] == 16_384, "no more than it may have"
    broker.away = True
    assert device.refuses("trust.metadata.unreachable").retry


def test_where_http_is_not_to_be_used_it_is_not(device: TrustingDevice, releases: Releases) -> None:
    device.ask, device.http = Broker(releases).fetch_file, False
    device.accepts()
    assert releases.asked == []


def test_what_the_broker_brings_is_verified_as_well(device: TrustingDevice, releases: Releases) -> None:
    device.ask, device.http = Broker(releases).fetch_file, False
    device.accepts()
    good = releases.files["metadata/timestamp.json"]
    for bad, code in (
        (Releases().files["metadata/timestamp.json"], "trust.metadata.invalid"),
        (b"x" * 1_000_000, "trust.metadata.length"),
    ):
        releases.files["metadata/timestamp.json"] = bad
        assert device.refuses(code).retry
    releases.files["metadata/timestamp.json"] = good
    for path in list(releases.files):
        if f"{device.manifest}.json" in path:
            releases.files[path] = b"another"
    (device.folder / "trust" / "targets" / f"manifests_{device.manifest}.json").unlink()
    device.refuses("trust.manifest.digest")


def test_a_child_that_asks_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ask_a_child_that(
        "import struct\n"
        'raw = b\'{"type":"NeedFile","path":"metadata/timestamp.json","length_max":1}\'\n'
        "while True:\n"
        "    sys.stdout.buffer.write(struct.pack('>I', len(raw)) + raw); sys.stdout.buffer.flush()\n"
        "    sys.stdin.buffer.read(4)\n",
        tmp_path,
        monkeypatch,
    )
    assert "without an end" in answer.message
    assert answer.retry


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("sys.stdout.buffer.write(b'\\xff\\xff\\xff\\xff')", "exit code 0"),
        ("sys.stdout.buffer.write(b'\\0\\0\\0\\2{}')", "exit code 0"),
        ("import time; time.sleep(60)", "no answer within"),
        (
            "import time; sys.stdout.buffer.write(b'\\0'); sys.stdout.flush(); time.sleep(60)",
            "no answer within",
        ),
    ],
)
def test_a_child_that_gives_no_answer_is_a_passing_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    answer = ask_a_child_that(body, tmp_path, monkeypatch)
    assert answer.code == "trust.child"
    assert answer.retry
    assert message in answer.message


def ask_a_child_that(body: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    script = folder / "python"
    script.write_text(f"#!{sys.executable} -S\nimport sys\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    answer = TrustProcess(1.0, lambda _path, _length: b"").ask(MakeKey(identity_dir=str(folder), device=PI))
    assert isinstance(answer, Refused)
    return answer


def test_an_abort_ends_the_child_and_the_next_question_is_answered(
    device: TrustingDevice, releases: Releases
) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(_path: str, _length_max: int) -> bytes:
        held.set()
        go_on.wait(20)
        raise LaterError("nobody answers")

    trust, answers = TrustProcess(fetch_file=hold), list[object]()
    made = MakeKey(identity_dir=str(device.folder / "identity"), device=PI)
    device.http = False
    thread = threading.Thread(target=lambda: answers.append(trust.ask(_refresh(device))))
    thread.start()
    assert held.wait(20)
    trust.abort()
    go_on.set()
    thread.join(20)
    assert isinstance(answers[0], Refused)
    assert answers[0].retry
    assert isinstance(trust.ask(made), KeyMade)


def test_two_questions_at_once_are_answered_one_after_the_other(
    device: TrustingDevice, releases: Releases
) -> None:
    """They would write the same files."""
    trust, answers = TrustProcess(), list[object]()
    for _ in range(2):
        trust.start(_refresh(device), answers.append)
    wait_for("both answers", lambda: len(answers) == 2)
    assert all(isinstance(answer, Refreshed) for answer in answers)
    walks = [index for index, path in enumerate(releases.asked) if path == "metadata/2.root.json"]
    assert len(walks) == 2
    assert "metadata/timestamp.json" in releases.asked[walks[0] : walks[1]], "the first had ended"


def _refresh(device: TrustingDevice) -> Refresh:
    return Refresh(
        identity_dir=str(device.folder / "identity"), trust_dir=str(device.folder / "trust"),
        repository=device.repository, wall_ms=int(time.time() * 1000),
    )  # fmt: skip
