"""MLServer, set up at its best for one small model: no extra processes, no metrics, no compression."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import tritonclient.http

from tests.kit.ports import free_port
from tests.kit.processes import end_process
from tests.kit.waiting import wait_for

COMMAND: Final = Path(".venvs/bench-mlserver/bin/mlserver").absolute()
RUNTIME: Final = Path(__file__).with_name("mlserver_runtime.py")


@contextmanager
def running_mlserver(folder: Path, model: Path) -> Iterator[str | None]:
    """Serve ``model`` under the name ``bench``; yield host and port, none where MLServer is not installed."""
    if not COMMAND.exists():
        print(f"  MLServer is not installed ({COMMAND} is missing): `scripts/env bench-mlserver`")
        yield None
        return
    port = free_port()
    settings = {
        "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": free_port(),
        "metrics_endpoint": None, "parallel_workers": 0, "gzip_enabled": False,
    }  # fmt: skip
    one = {"name": "bench", "implementation": "mlserver_runtime.Tflite", "parameters": {"uri": str(model)}}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(one))
    shutil.copy(RUNTIME, folder)
    with (folder / "mlserver.log").open("wb") as log:
        process = subprocess.Popen(
            [str(COMMAND), "start", str(folder)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"PYTHONPATH": str(folder), "PATH": f"{COMMAND.parent}:/usr/bin:/bin", "HOME": str(folder)},
        )
    address = f"127.0.0.1:{port}"
    try:
        wait_for("MLServer to serve", lambda: process.poll() is not None or _is_ready(address), 120)
        assert process.poll() is None, (folder / "mlserver.log").read_text()
        yield address
    finally:
        end_process(process)


def _is_ready(address: str) -> bool:
    with tritonclient.http.InferenceServerClient(address) as client:
        try:
            return bool(client.is_model_ready("bench"))
        except OSError:
            return False
