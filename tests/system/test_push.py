"""A model travels to running devices, and telemetry comes back, on every kind of real part."""

import json
import urllib.request
from pathlib import Path

import numpy as np
import psycopg
import pytest

from fleet_shared.messages.desired import Policy
from fleet_shared.messages.fetch import Chunk
from fleet_shared.wire import decode
from tests.kit.mosquitto import Mosquitto
from tests.kit.mqtt import Listener
from tests.kit.object_store import ACCESS_KEY, SECRET_KEY, ObjectStore
from tests.kit.packages import make_package, register
from tests.kit.waiting import wait_for
from tests.kit.world import Agent, World, running_world, wait_for_outcomes, wait_for_rollout

pytestmark = pytest.mark.system


def make_source(folder: Path) -> Path:
    random = np.random.default_rng(3)
    path = folder / "source.npz"
    np.savez(path, x=random.normal(size=(40, 8)).astype(np.float32), y=random.integers(0, 4, 40))
    return path


def infer(agent: Agent, model: str) -> dict[str, object]:
    request = {"inputs": [{"name": "x", "shape": [1, 8], "datatype": "FP32", "data": [0.5] * 8}]}
    answer = urllib.request.urlopen(
        urllib.request.Request(
            f"http://127.0.0.1:{agent.http_port}/v2/models/{model}/infer",
            data=json.dumps(request).encode(),
            method="POST",
        ),
        timeout=10,
    )
    with answer:
        document: dict[str, object] = json.load(answer)
    return document


def push_and_watch(world: World, tmp_path: Path) -> None:
    first = world.add_agent("pi-1", source=make_source(tmp_path))
    second = world.add_agent("pi-2")
    with world.client() as client:
        version = register(client, "tiny", make_package())
        rollout = client.create_rollout("tiny", "all", variant=None, policy=Policy(soak_s=0.5, deadline_s=60))
        ended = wait_for_rollout(client, rollout.id)
        assert [(a.device, a.state) for a in ended.assignments] == [
            ("pi-1", "succeeded"),
            ("pi-2", "succeeded"),
        ], ended
        for agent in (first, second):
            answer = infer(agent, "tiny")
            assert answer["model_version"] == version.version
            outcomes = wait_for_outcomes(client, agent.name, 1)
            assert [outcome.name for outcome in outcomes] == ["update.succeeded"]
        wait_for("accuracy to come back", lambda: client.series(
            "pi-1", metric="accuracy", source="model", since_ms=0, limit=100) or None)  # fmt: skip
        for agent in (first, second):
            totals = client.totals(agent.name)
            assert totals.lost == 0
            assert totals.samples > 0


def test_push_with_the_embedded_broker_sqlite_and_a_folder(world: World, tmp_path: Path) -> None:
    push_and_watch(world, tmp_path)


def test_push_with_mosquitto_postgresql_and_s3(
    tmp_path: Path, mosquitto: Mosquitto, postgres_url: str, s3: ObjectStore
) -> None:
    prefix = f"world-{tmp_path.name}"
    options = {"broker": mosquitto.url, "database": postgres_url, "blobs": s3.url(prefix)}
    keys = {"FLEET_S3_ACCESS_KEY": ACCESS_KEY, "FLEET_S3_SECRET_KEY": SECRET_KEY}
    with (
        Listener(mosquitto.port, "fleet/v1/#") as listener,
        running_world(tmp_path, options, keys) as world,
    ):
        push_and_watch(world, tmp_path)
        digests = load_digests(world)
    messages = listener.get_all()
    stored, given = s3.digests_below(prefix), find_urls(messages, s3)
    assert digests <= stored, "the blobs are somewhere else"
    assert given <= stored
    assert len(given) == len(digests), "a device gets model, golden vectors and labels, each in one encoding"
    for device in ("pi-1", "pi-2"):
        topics = {topic for topic, _ in messages}
        for channel in ("presence", "reported", "desired", "fetch", "chunk", "telemetry", "ack"):
            assert f"fleet/v1/devices/{device}/{channel}" in topics, "the broker was passed by"
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM assignment").fetchone() == (2,)
        codebooks = connection.execute("SELECT sha256 FROM encoding WHERE encoding = 'codebook'").fetchall()
        assert given & {sha256 for (sha256,) in codebooks}, "weights travel as numbers of entries"
    assert not (tmp_path / "controller" / "fleet.db").exists()
    assert not (tmp_path / "controller" / "blobs").exists()


def load_digests(world: World) -> set[str]:
    with world.client() as client:
        (variant,) = client.version("tiny", "1.0.0").variants
    return set(variant.blobs.values())


def find_urls(messages: list[tuple[str, bytes]], s3: ObjectStore) -> set[str]:
    """Return the digests for which a device was given an address at this object store."""
    chunks = [decode(Chunk, payload) for topic, payload in messages if topic.endswith("/chunk")]
    assert all((chunk.url or "").startswith(f"{s3.endpoint}/{s3.bucket}/") for chunk in chunks), chunks
    return {str(chunk.sha256) for chunk in chunks}
