"""``fleet device show``: what an operator reads of a device that reports trouble."""

import time
from collections.abc import Iterator

import pytest

from fleet_cloud.domain.device import Device
from fleet_cloud.entrypoints.cli.devices import WORKER_WORDS
from fleet_cloud.entrypoints.cli.telemetry import describe_time
from fleet_shared.messages.reported import Failure, Reported, TrustReport, WorkerReport, WorkerState
from fleet_shared.names import DeviceId, Digest
from tests.kit.api import Api, running_api
from tests.kit.commands import run_fleet
from tests.kit.parts import ABLE

FULL = Failure(code="outbox.full", message="the disk is full", hint="free space")
CRASHED = Failure(code="worker.crashed", message="killed by SIGSEGV")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("api")) as running:
        yield running


def show(api: Api, **reported: object) -> list[str]:
    device = Device(
        id=DeviceId("pi-1"), enrolled_ms=1, public_key_sha256=Digest("a" * 64),
        reported=Reported(session="s", facts=ABLE, **reported),  # type: ignore[arg-type]
    )  # fmt: skip
    with api.uow.begin() as transaction:
        transaction.devices.put(device)
    done = run_fleet(api.url, "device", "show", "pi-1")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_worker_and_each_trouble_in_plain_words_with_what_to_do(api: Api) -> None:
    worker = WorkerReport(state=WorkerState.RESTARTING, restarts=2, failure=CRASHED)
    assert show(api, worker=worker, trouble=(FULL, CRASHED))[-7:] == [
        "worker:     ended, and is started again in a moment (2 restarts in a row)",
        "            worker.crashed: killed by SIGSEGV",
        "trouble:    this device cannot do all that it should",
        "            outbox.full: the disk is full",
        "            hint: free space",
        "trouble:    this device cannot do all that it should",
        "            worker.crashed: killed by SIGSEGV",
    ]


def test_a_device_that_is_well_says_little(api: Api) -> None:
    lines = show(api, worker=WorkerReport(state=WorkerState.SERVING))
    assert lines[-1] == "worker:     serves"
    assert not any(line.startswith(("worker:", "trouble:")) for line in show(api)), "an older agent"


def test_when_the_certificate_ends_is_shown(api: Api) -> None:
    def line(expires_ms: int) -> str:
        trust = TrustReport(issuer=Digest("b" * 64), certificate_expires_ms=expires_ms)
        (found,) = [one for one in show(api, trust=trust) if one.startswith("identity:")]
        return found

    now_ms = int(time.time() * 1000)
    assert (
        line(now_ms + 170 * 86_400_000 + 60_000)
        == f"identity:   certificate ends in 170 d, of the authority {'b' * 16}"
    )
    assert "ended 3 d ago" in line(now_ms - 3 * 86_400_000)


def test_every_state_of_a_worker_has_words() -> None:
    assert set(WORKER_WORDS) == {state.value for state in WorkerState}


def test_a_time_that_no_calendar_has_is_shown_all_the_same() -> None:
    """A device may say anything, and rows are dated by what it says."""
    assert describe_time(0) == "1970-01-01 00:00:00"
    assert describe_time(2**63 - 1) == "9223372036854775807 ms"
