"""A version whose preprocessing older agents do not know: from the operator's command to a camera."""

import json
import os
import subprocess
import urllib.request
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleet_shared.manifest import Preprocessing
from fleet_shared.messages.desired import Policy
from fleet_shared.pixels import fit_image, to_real
from tests.kit.camera import write_video
from tests.kit.inference import infer
from tests.kit.people import KIT_TOKEN
from tests.kit.tiny_model import make_image_classifier
from tests.kit.waiting import wait_for
from tests.kit.world import BIN, World, wait_for_rollout

pytestmark = pytest.mark.system

OPTIONS = (
    "--colour", "bgr", "--scale", "0.00392156862745098", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.4",
    "--resize", "bilinear", "--fit", "crop", "--layout", "nchw",
)  # fmt: skip


def test_what_the_operator_said_at_the_import_is_what_a_device_computes(world: World, tmp_path: Path) -> None:

    (tmp_path / "m.tflite").write_bytes(make_image_classifier(3, 8, 6))  # planes of 8 x 6
    picture = np.random.default_rng(4).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    (tmp_path / "samples").mkdir()
    Image.fromarray(picture).save(tmp_path / "samples" / "1.png")
    video = write_video(tmp_path / "camera.avi", [(0, 0, 255)] * 3)
    agent = world.add_agent("pi-1", environment={"FLEET_AGENT_SOURCE": f"camera:{video}"})
    command = [
        str(BIN / "fleet"),
        "--server",
        world.controller.url,
        "model",
        "import",
        str(tmp_path / "m.tflite"),
    ]
    subprocess.run(
        [*command, "--name", "seeing", "--samples", str(tmp_path / "samples"), *OPTIONS],
        check=True,
        env={**os.environ, "FLEET_TOKEN": KIT_TOKEN},
    )
    with world.client() as client:
        (variant,) = client.versions("seeing")[0].variants
        preprocessing = variant.contract.preprocessing
        rollout = client.create_rollout(
            "seeing", "all", variant=None, policy=Policy(soak_s=0.5, deadline_s=60)
        )
        ended = wait_for_rollout(client, rollout.id)
        assert [one.state for one in ended.assignments] == ["succeeded"], ended
        answers = ask_both_ways(agent.http_port, preprocessing, tmp_path / "samples" / "1.png")
        assert answers[0] == answers[1]

        def count() -> bool:
            found = client.series("pi-1", metric="requests", source="model", since_ms=0, limit=100)
            return any(point.value > 2 for series in found for point in series.points)

        wait_for("the camera's frames to be inferred", count)


def ask_both_ways(port: int, preprocessing: Preprocessing, file: Path) -> list[list[float]]:
    """Return the outputs for the tensor as it is computed here, and for the image itself."""

    with Image.open(file) as image:
        tensor = to_real(fit_image(image, preprocessing, (1, 3, 8, 6)), preprocessing)[np.newaxis]
    own = infer(port, "seeing", [("x", tensor)])
    image_input = {
        "name": "x", "datatype": "BYTES", "shape": [1], "data": [b64encode(file.read_bytes()).decode()],
        "parameters": {"preprocess": True},
    }  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/seeing/infer", data=json.dumps({"inputs": [image_input]}).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        given = json.load(answer)
    return [document["outputs"][0]["data"] for document in (own, given)]
