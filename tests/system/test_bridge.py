"""The bridge as a process, between a real local broker with passwords and rights, and real workers."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from PIL import Image

from tests.kit.bare_worker import serving
from tests.kit.engine import package_of, write_slot
from tests.kit.inference import infer
from tests.kit.local_broker import Application, LocalBroker, local_broker, write_certificates
from tests.kit.packages import LABELS
from tests.kit.processes import end_process
from tests.kit.tiny_model import make_image_classifier
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.system

FLEET_AGENT = Path(sys.executable).parent / "fleet-agent"
SHAPE = (1, 4, 6, 3)
RIGHTS = {
    "bridge": "topic read site/in/#\ntopic write site/out/#\ntopic write site/status",
    "app": "topic write site/in/#\ntopic read site/out/#\ntopic read site/status",
}
ROUTE = """
[[route]]
input = "site/in/+/{format}"
output = "site/out/{format}"
errors = "site/out/errors"
model = "tiny"
format = "{format}"
"""


FORBIDDEN = ROUTE.format(format="json").replace("+/json", "forbidden").replace("out/json", "forbidden")


class BridgeProcess:
    def __init__(
        self, folder: Path, broker: LocalBroker, socket: Path, queue_messages: int, protocol: str
    ) -> None:
        self._log = folder / "bridge.log"
        (folder / "password").write_text("bridgebridge\n")
        proof = f'username = "bridge"\npassword_file = "{folder}/password"\n'
        if (own := broker.certificates) is not None:
            names = {"ca_file": "ca.pem", "certificate_file": "bridge.pem", "key_file": "bridge.key"}
            proof = "".join(f'{key} = "{own / name}"\n' for key, name in names.items())
        self._config = folder / "bridge.toml"
        routes = FORBIDDEN + "".join(ROUTE.format(format=name) for name in ("json", "tensor", "image"))
        self._config.write_text(
            f'worker = "{socket}"\nworker_timeout_s = 2.0\nqueue_messages = {queue_messages}\n'
            f'status_topic = "site/status"\nstatus_interval_s = 0.2\n'
            f'[broker]\nport = {broker.port}\nprotocol = "{protocol}"\n{proof}{routes}'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(FLEET_AGENT), "bridge", "--config", str(self._config)], stdout=log, stderr=log,
                env={**os.environ, "FLEET_AGENT_STATE": "/nowhere"},
            )  # fmt: skip

    def end(self, number: int = signal.SIGTERM) -> int:
        process, self._process = self._process, None
        return 0 if process is None else end_process(process, number)


@contextmanager
def bridging(
    folder: Path, broker: LocalBroker, socket: Path, queue_messages: int = 1000, protocol: str = "5"
) -> Iterator[BridgeProcess]:
    bridge = BridgeProcess(folder, broker, socket, queue_messages, protocol)
    bridge.start()
    try:
        yield bridge
    finally:
        assert bridge.end() == 0


def write_model(folder: Path, version: str, seed: int) -> Path:
    model = make_image_classifier(*SHAPE[1:], seed=seed)
    return write_slot(folder / version, package_of(model, [SHAPE], colour="rgb"), version=version)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def wait_for_status(app: Application, **wanted: Any) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        told = app.find("site/status")
        return told[-1] if told and all(told[-1][key] == value for key, value in wanted.items()) else None

    return wait_for(f"the bridge's status {wanted}", look)


def test_samples_go_in_and_classes_come_out_in_every_format(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, SHAPE[1:], dtype=np.uint8)
    real = pixels.astype(np.float32) * np.float32(1 / 255)
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS) as broker:
        served.swap(write_model(tmp_path, "1.0.0", seed=1))
        answer = infer(served.port, "tiny", [("x", real[np.newaxis])])
        scores = answer["outputs"][0]["data"]
        app = Application(broker.port, "app", "site/#")
        with bridging(tmp_path, broker, served.socket), app.running():
            wait_for_status(app, online=True)
            app.publish("site/in/a/json", json.dumps({"id": 7, "data": pixels.tolist()}), b"seven")
            app.publish("site/in/a/image", png(pixels), b"picture")
            app.publish("site/in/a/tensor", real.tobytes())
            app.publish("site/in/a/json", "no json")
            app.publish("site/in/a/image", b"no image")
            app.publish("site/in/a/tensor", b"1234")
            wait_for("all answers", lambda: sum(topic.startswith("site/out") for topic, _, _ in app.got) == 6)
            for name in ("json", "image", "tensor"):
                (result,) = app.find(f"site/out/{name}")
                assert (result["model"], result["version"]) == ("tiny", "1.0.0")
                assert result["label"] == LABELS[int(np.argmax(scores))]
                assert result["outputs"][0]["data"] == pytest.approx(scores, abs=1e-6)
                assert result["score"] == pytest.approx(max(scores), abs=1e-6)
                assert 0 < result["inference_us"] <= result["latency_us"]
            correlations = {topic: correlation for topic, _, correlation in app.got}
            assert app.find("site/out/json")[0]["id"] == 7
            assert (correlations["site/out/json"], correlations["site/out/image"]) == (b"seven", b"picture")
            codes = [document["code"] for document in app.find("site/out/errors")]
            assert sorted(codes) == ["bridge.payload", "bridge.refused", "bridge.refused"]
            status = wait_for_status(app, answered=3, failed=3)
            assert (status["received"], status["dropped"], status["held"]) == (6, 0, 0)
            app.publish("site/in/forbidden", json.dumps(real.ravel().tolist()))
            wait_for_status(app, answered=4, refused=1)
            assert app.find("site/forbidden") == []


def test_with_a_certificate_over_tls_and_mqtt_3(tmp_path: Path) -> None:
    own = write_certificates(tmp_path / "certificates", ["bridge", "app"])
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS, own) as broker:
        served.swap(write_model(tmp_path, "1.0.0", seed=1))
        app = Application(broker.port, "app", "site/#", own)
        with bridging(tmp_path, broker, served.socket, protocol="3.1.1"), app.running():
            wait_for_status(app, online=True)
            app.publish("site/in/a/json", json.dumps({"id": "x", "data": [0.5] * 72}))
            (result,) = wait_for("the answer", lambda: app.find("site/out/json") or None)
            assert (result["id"], result["topic"]) == ("x", "site/in/a/json")


def test_messages_at_qos_0_are_answered_and_cost_no_connection(tmp_path: Path) -> None:
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS) as broker:
        served.swap(write_model(tmp_path, "1.0.0", seed=1))
        app = Application(broker.port, "app", "site/#")
        with bridging(tmp_path, broker, served.socket), app.running():
            wait_for_status(app, online=True)
            for number in range(20):
                app.publish("site/in/a/json", json.dumps({"id": number, "data": [0.5] * 72}), qos=0)
                app.publish("site/in/a/json", json.dumps({"id": -number - 1, "data": [0.5] * 72}))
            wait_for_status(app, online=True, answered=40, held=0)
            answered = sorted(result["id"] for result in app.find("site/out/json"))
            assert answered == list(range(-20, 20))
        log = (tmp_path / "bridge.log").read_text()
        assert log.count("connected to the local broker") == 1, log


class Steady:
    """Publishes a sample every 10 ms, with a number of its own, until the block ends."""

    def __init__(self, app: Application) -> None:
        self.count = 0
        self._app = app
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(30)

    def wait_for_more(self) -> None:
        """Until a sample is answered that was published from now on."""
        begin = self.count
        wait_for("a new sample to be answered", lambda: max(self.find_answered(), default=0) > begin + 20)

    def find_answered(self) -> set[int]:
        return {result["id"] for result in self._app.find("site/out/json")}

    def _run(self) -> None:
        while not self._done.wait(0.01):
            self._app.publish("site/in/a/json", json.dumps({"id": self.count, "data": [0.5] * 72}))
            self.count += 1


def test_nothing_is_lost_over_swaps_restarts_of_the_broker_and_a_killed_bridge(tmp_path: Path) -> None:
    """Every sample is answered: by the old or the new version, once or (after a kill) twice."""
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS) as broker:
        slots = [write_model(tmp_path, f"1.{number}.0", seed=number) for number in range(3)]
        served.swap(slots[0])
        app = Application(broker.port, "app", "site/#")
        with bridging(tmp_path, broker, served.socket) as bridge, app.running():
            wait_for_status(app, online=True)
            with Steady(app) as steady:
                steady.wait_for_more()
                served.swap(slots[1])
                steady.wait_for_more()
                broker.end()
                broker.start()
                steady.wait_for_more()
                bridge.end(signal.SIGKILL)
                bridge.start()
                steady.wait_for_more()
                served.swap(slots[2])
                steady.wait_for_more()
            try:
                wait_for("every sample to be answered", lambda: len(steady.find_answered()) == steady.count)
            except AssertionError:
                missing = sorted(set(range(steady.count)) - steady.find_answered())
                pytest.fail(f"lost {missing}\n{(tmp_path / 'bridge.log').read_text()}")
            wait_for_status(app, online=True, dropped=0, failed=0, held=0)
        results = app.find("site/out/json")
        assert {result["version"] for result in results} == {"1.0.0", "1.1.0", "1.2.0"}
        assert app.find("site/out/errors") == []
        print(f"{steady.count} samples, {len(results)} answers, lost 0")


def test_a_killed_bridge_finds_again_what_it_had_not_answered(tmp_path: Path) -> None:
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS) as broker:
        app = Application(broker.port, "app", "site/#")
        with bridging(tmp_path, broker, served.socket) as bridge, app.running():
            wait_for_status(app, online=True)
            for number in range(30):
                app.publish("site/in/a/json", json.dumps({"id": number, "data": [0.5] * 72}))
            wait_for_status(app, received=30, held=30, worker=False)
            bridge.end(signal.SIGKILL)
            wait_for_status(app, online=False)  # the broker says so: the will
            bridge.start()
            served.swap(write_model(tmp_path, "1.0.0", seed=1))
            wait_for_status(app, answered=30, held=0)
        assert [result["id"] for result in app.find("site/out/json")] == list(range(30))


def test_what_does_not_fit_while_no_worker_answers_is_dropped_oldest_first_and_counted(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as served, local_broker(tmp_path / "broker", RIGHTS) as broker:
        app = Application(broker.port, "app", "site/#")
        with bridging(tmp_path, broker, served.socket, queue_messages=5), app.running():
            wait_for_status(app, online=True)
            for number in range(40):
                app.publish("site/in/a/json", json.dumps({"id": number, "data": [0.5] * 72}))
            wait_for_status(app, received=40, worker=False)
            served.swap(write_model(tmp_path, "1.0.0", seed=1))
            status = wait_for_status(app, held=0, worker=True)
            answered = [result["id"] for result in app.find("site/out/json")]
            assert answered[-5:] == [35, 36, 37, 38, 39]
            assert len(answered) == status["answered"] == 40 - status["dropped"]
            assert status["dropped"] in {34, 35}, "the first one may have been worked on"


def test_a_wrong_password_is_said_so_and_tried_again(tmp_path: Path) -> None:
    with local_broker(tmp_path / "broker", RIGHTS) as broker:
        bridge = BridgeProcess(tmp_path, broker, tmp_path / "inference.sock", 16, "5")
        (tmp_path / "password").write_text("wrong")
        bridge.start()
        log = tmp_path / "bridge.log"
        wait_for("the refusal", lambda: "Not authorized" in log.read_text())
        (tmp_path / "password").write_text("bridgebridge")
        wait_for("the connection", lambda: "connected to the local broker" in log.read_text())
        assert bridge.end() == 0
        assert "Traceback" not in log.read_text()
