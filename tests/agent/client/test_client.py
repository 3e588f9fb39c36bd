"""The client against the real server: over both kinds of sockets, through swaps, and what it says when
something is wrong."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fleet_agent.client import InferenceClient, InferenceError, Outputs
from fleet_agent.client.tensors import write_request
from fleet_agent.errors import WorkerError
from fleet_agent.worker_http import Address, Wire
from tests.kit.engine import package_of
from tests.kit.ports import free_port
from tests.kit.scripted_http import BREAK, ScriptedHttp
from tests.kit.served import Served
from tests.kit.tiny_model import make_sum_and_product

ONE = np.full((1, 8), 0.5, np.float32)


@pytest.fixture(params=["http", "unix"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    running = Served(
        tmp_path / "slot", pair=True, unix_path=tmp_path / "s" if request.param == "unix" else None
    )
    yield running
    running.close()


def test_binary_and_json_give_the_same_and_say_who_answered(served: Served) -> None:
    with (
        InferenceClient(served.address) as client,
        InferenceClient(served.address, "tiny", binary=False) as as_json,
    ):
        outputs, again = client.infer({"x": ONE}), as_json.infer({"x": ONE})
        assert isinstance(outputs, Outputs)
        assert (outputs.model, outputs.version) == ("tiny", "1.0.0")
        assert outputs["y"].shape == (1, 4)
        np.testing.assert_array_equal(outputs["y"], again["y"])
        outputs["y"][0, 0] = 1.0  # an array of the caller's own
        assert client.infer({"x": np.repeat(ONE, 5, axis=0)})["y"].shape == (5, 4)
        assert client.metadata()["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
        assert client.statistics()["inference_count"] == 7
        assert client.is_ready()
    assert served.model.calls == 7


def test_several_inputs_and_chosen_outputs(served: Served, tmp_path: Path) -> None:
    package = package_of(make_sum_and_product((1, 20_000)), [(1, 20_000)] * 2)
    old = served.server
    served.take_over(tmp_path / "two", package=package)
    old.drain(5.0)
    a = np.arange(60_000, dtype=np.float32).reshape(3, 20_000)
    with InferenceClient(served.address) as client:
        both = client.infer({"b": a, "a": a})
        assert sorted(both) == ["product", "sum"]
        only = client.infer({"a": a, "b": a}, outputs=["sum"])
        assert list(only) == ["sum"]
        np.testing.assert_array_equal(only["sum"], a + a)


def test_a_swap_is_noticed_by_nobody_but_the_version(served: Served, tmp_path: Path) -> None:
    with InferenceClient(served.address) as client, InferenceClient(served.address, "tiny") as strict:
        for version in ("1.0.0", "2.0.0", "3.0.0"):
            if version != "1.0.0":
                old = served.server
                served.take_over(tmp_path / version, version=version)
                old.drain(5.0)
            assert client.infer({"x": ONE}).version == strict.infer({"x": ONE}).version == version
        old = served.server
        served.take_over(tmp_path / "other", model="other")
        old.drain(5.0)
        assert client.infer({"x": ONE}).model == "other", "who asked for no model follows the agent"
        with pytest.raises(InferenceError, match="this agent serves") as caught:
            strict.infer({"x": ONE})
        assert (caught.value.code, caught.value.status) == ("inference.not_found", 404)
        assert not strict.is_ready()


def test_a_connection_that_was_closed_while_idle_is_opened_again(tmp_path: Path) -> None:
    served = Served(tmp_path / "slot")
    with InferenceClient(served.address) as client:
        client.infer({"x": ONE})
        old = served.server
        served.take_over(tmp_path / "new")
        old.drain(0.05)  # nobody to hand over to: closed after the linger
        client.infer({"x": ONE})
        client.close()
        client.infer({"x": ONE})
    served.close()


def test_a_refusal_says_why_and_the_client_goes_on(served: Served) -> None:
    with InferenceClient(served.address) as client:
        for inputs in ({"z": ONE}, {"x": ONE.astype(np.int8)}, {"x": ONE[:, :7]}):
            with pytest.raises(InferenceError, match="must") as caught:
                client.infer(inputs)
            assert (caught.value.code, caught.value.status) == ("inference.refused", 400)
        with pytest.raises(InferenceError, match="at most") as caught:
            client.infer({"x": np.zeros((1_000_000, 8), np.float32)})
        assert caught.value.status == 413
        served.model.failures = [WorkerError("surprise")]
        with pytest.raises(InferenceError, match="surprise") as caught:
            client.infer({"x": ONE})
        assert caught.value.code == "inference.failed"
        with pytest.raises(ValueError, match="dtype"):
            client.infer({"x": np.array(["a"])})
        assert client.infer({"x": ONE})["y"].shape == (1, 4)


def test_a_model_that_takes_too_long_is_not_waited_for(served: Served) -> None:
    with InferenceClient(served.address, "tiny", timeout_s=0.2) as client:
        served.model.go.clear()
        with pytest.raises(InferenceError) as caught:
            client.infer({"x": ONE})
        assert caught.value.code == "inference.timeout"
        served.model.go.set()
        assert client.infer({"x": ONE})["y"].shape == (1, 4), "over a connection of its own"


def test_nobody_there_is_said(tmp_path: Path) -> None:
    for address in (f"http://127.0.0.1:{free_port()}", f"unix:{tmp_path}/nothing"):
        with InferenceClient(address) as client, pytest.raises(InferenceError) as caught:
            client.infer({"x": ONE})
        assert caught.value.code == "inference.unreachable"
        assert address in caught.value.message


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{]}",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n",
        b"a" * 100_000,
    ],
)
def test_what_is_no_agent_is_said(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100_000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with InferenceClient(address, "tiny") as client, pytest.raises(InferenceError) as caught:
            client.infer({"x": ONE})
        thread.join(20)
    assert caught.value.code == "inference.protocol"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("http://localhost:1/", Address("localhost", 1)),
        ("http://[::1]:8080", Address("::1", 8080)),
        ("unix:/run/a.sock", Address(path="/run/a.sock")),
    ],
)
def test_addresses(text: str, wanted: Address) -> None:
    assert Address.parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:8080", "https://a:1", "http://a", "http://:80", "http://a:65536", "unix:"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="an address is"):
        InferenceClient(text)


def test_tensors_are_sent_as_they_are(tmp_path: Path) -> None:
    array = np.frombuffer(os.urandom(24), np.int16).reshape(3, 4)[:, ::2]  # not contiguous
    document, contents = write_request({"x": array}, ["y"], binary=True)
    assert contents == [array.copy().tobytes()]
    assert b'"shape":[3,2]' in document


def test_numbers_in_the_other_order_of_bytes_are_not_sent_as_if_they_were_in_this_one() -> None:
    other = np.ones((1, 2), dtype=np.dtype(np.float32).newbyteorder("S"))
    with pytest.raises(ValueError, match="convert it first"):
        write_request({"x": other}, None, binary=True)


def test_what_broke_under_a_request_is_asked_again_only_where_that_is_wanted(tmp_path: Path) -> None:
    ok = (200, b"{}", False)
    for again, requests in ((True, 3), (False, 2)):
        file = tmp_path / f"s{again}"
        with ScriptedHttp(file, [ok, BREAK, ok]).running() as server:
            wire = Wire(Address(path=str(file)), 20.0, again=again)
            assert wire.ask("GET", "/").status == 200
            if again:
                assert wire.ask("GET", "/").status == 200
            else:
                with pytest.raises(InferenceError, match="instead of answering"):
                    wire.ask("GET", "/")
            assert len(server.requests) == requests
            wire.close()
