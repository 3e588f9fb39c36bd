"""The embedded broker with a whole controller and real agents: who is revoked is gone, the others go on."""

import time
from pathlib import Path

import psutil
import pytest

from fleet_cloud.adapters.broker.admission import Code
from fleet_cloud.services.ports import TlsFiles
from tests.kit.secure_broker import RawClient, connect_packet, packet
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, wait_for_all_until_now

pytestmark = pytest.mark.system

CUT_WITHIN_S = 2.0


def has_session(agent: Agent, port: int) -> bool:
    sockets = psutil.Process(agent.pid).net_connections("tcp")
    return any(
        one.status == psutil.CONN_ESTABLISHED and one.raddr and one.raddr.port == port for one in sockets
    )


def knock(agent: Agent, port: int) -> bytes:
    """Try to come in with what is on the device's disk; return the broker's whole answer."""
    identity: Path = agent.state / "identity"
    files = TlsFiles(identity / "ca.pem", identity / "certificate.pem", identity / "key.pem")
    with RawClient(port, files) as client:
        client.send(connect_packet(agent.name), packet(0xE0))
        return client.read(5)


def test_a_revoked_device_is_cut_off_and_stays_out_until_it_is_readmitted(world: World) -> None:
    first, second = world.add_agent("pi-1"), world.add_agent("pi-2")
    port = world.controller.broker_port
    with world.client() as client:
        wait_for("pi-1 to be online", lambda: client.device("pi-1").online)
        assert has_session(first, port)
        started = time.monotonic()
        client.revoke_device("pi-1")
        wait_for("its session to end", lambda: not has_session(first, port), CUT_WITHIN_S)
        assert time.monotonic() - started < CUT_WITHIN_S
        wait_for("pi-1 to be offline", lambda: not client.device("pi-1").online)
        for _ in range(3):
            assert knock(first, port) == bytes([0x20, 2, 0, Code.NOT_AUTHORIZED])
        wait_for_all_until_now(client, "pi-2")
        assert has_session(second, port)
        assert client.device("pi-2").online
        client.readmit_device("pi-1")
        wait_for("pi-1 to come back by itself", lambda: client.device("pi-1").online)
