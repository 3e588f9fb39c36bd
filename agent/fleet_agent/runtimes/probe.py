"""Whether one runtime works here: ``python -m fleet_agent.runtimes.probe NAME``, a process of its own.

It loads the runtime and a model of one addition, and computes it. What is installed may still be
broken: a missing system library, a numpy that it was not made for, an instruction that this processor
does not have. Exit code 0: it works; 1: the last line of standard output says why not.
"""

import base64
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from fleet_agent.runtimes.loading import load_runtime
from fleet_shared.errors import FleetError

MODEL: Final = (
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAABAAAAAQAEAAAMAAAACAAAALAAAAAwAAAAAAAYACAAEAAYAAAAE"
    "AAAAEAAAAAAAgD8AAABAAABAQAAAgEDw/v//AQAAABAAAAAMABQAEAAMAAgABAAMAAAAEAAAAFAAAABUAAAAWAAAAAEA"
    "AAAUAAAAAAAOABQAAAAQAAwACwAEAA4AAAAQAAAAAAAACwwAAAAQAAAASP///wEAAAACAAAAAgAAAAAAAAABAAAAAQAA"
    "AAIAAAABAAAAAAAAAAMAAABkAAAANAAAAAQAAAC0////CAAAAAwAAAABAAAAeQAAAAIAAAABAAAABAAAAAwAEAAMAAAA"
    "CAAEAAwAAAAMAAAAAQAAAAwAAAABAAAAYwAAAAEAAAAEAAAADAAMAAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAAC"
    "AAAAAQAAAAQAAAABAAAACAAAAAQABAAEAAAA"
)
"""A ``.tflite`` in base64: y = x + (1, 2, 3, 4), float32, shape (1, 4)."""


def probe(name: str) -> None:
    """Raises `FleetError` for a runtime that cannot be loaded, or that rejects or miscomputes the model."""
    runtime = load_runtime(name)
    if name == "tensorrt":
        return  # it reads no such file; that its provider is there is what can be known
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(base64.b64decode(MODEL))
        model = runtime.load(str(file), 1)
        (answer,) = model.invoke([np.full((1, 4), 0.5, dtype=np.float32)])
    if not np.array_equal(answer, np.array([[1.5, 2.5, 3.5, 4.5]], dtype=np.float32)):
        raise FleetError(f"it adds wrongly: {answer.tolist()}", code="worker.runtime.missing")


if __name__ == "__main__":
    try:
        probe(sys.argv[1])
    except FleetError as exc:
        # What the package itself said is the reason; that it cannot be loaded is known already.
        print(" ".join(str(exc.__cause__ or exc.message).split()) or type(exc.__cause__).__name__)
        sys.exit(1)
