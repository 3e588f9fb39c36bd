"""What one runtime answers: ``python -m fleet_agent.runtimes.answer NAME MODEL INPUTS OUTPUTS``.

For whoever builds models and wants to know beforehand how a runtime of the devices computes them.
INPUTS and OUTPUTS are ``.npz`` with ``input_0`` .. and ``output_0`` .., samples first, each in the
tensor's own shape; in OUTPUTS ``seconds`` says how long each sample took. Exit code 1: the last line of
standard output says why there is no answer.
"""

import sys
import time

import numpy as np

from fleet_agent.runtimes.loading import load_runtime
from fleet_shared.errors import FleetError


def answer(name: str, model_file: str, inputs_file: str, outputs_file: str) -> None:
    model = load_runtime(name).load(model_file, 1)
    with np.load(inputs_file) as archive:
        columns = [archive[f"input_{index}"] for index in range(len(model.inputs))]
    rows, seconds = [], []
    for sample in zip(*columns, strict=True):
        begin = time.perf_counter()
        rows.append(model.invoke(list(sample)))
        seconds.append(time.perf_counter() - begin)
    outputs = {f"output_{index}": np.stack(column) for index, column in enumerate(zip(*rows, strict=True))}
    np.savez(outputs_file, allow_pickle=False, seconds=np.array(seconds), **outputs)


if __name__ == "__main__":
    try:
        answer(*sys.argv[1:])
    except FleetError as exc:
        print(" ".join(exc.message.split()))
        sys.exit(1)
