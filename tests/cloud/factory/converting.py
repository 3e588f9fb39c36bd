"""A process that converts one model in every precision: ``MODEL.keras FOLDER``."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.keras_file import read_keras
from fleet_cloud.factory.network import Network, Precision
from fleet_cloud.factory.quantization.aware import make_aware
from fleet_cloud.factory.repeatable import make_repeatable
from tests.cloud.factory.small import make_lab

SAMPLES = 16


def convert_all(model: Path) -> Iterator[tuple[str, bytes]]:
    make_repeatable(1)
    lab, network = make_lab(), Network(read_keras(model.read_bytes()))
    for kind in ("fp32", "float16", "dynamic-range", "int8", "int16x8"):
        precision = Precision(kind, calibration_samples=SAMPLES)
        yield kind, convert(replace(network, precision=precision), lab)
    yield "aware", convert(make_aware(network, lab, SAMPLES).network, lab)


def main() -> None:
    model, folder = (Path(word) for word in sys.argv[1:])
    for name, content in convert_all(model):
        (folder / f"{name}.tflite").write_bytes(content)


if __name__ == "__main__":
    main()
