"""Models that are not in this repository: FLEET_BENCH_DATA (or --data) names the folder."""

import os
from pathlib import Path
from typing import Final

from fleet_cloud.factory.imported import ImportRequest, import_model
from fleet_cloud.factory.package import Package
from fleet_shared.manifest import Preprocessing
from tests.kit.tiny_model import make_image_classifier

VARIABLE: Final = "FLEET_BENCH_DATA"
PERSON: Final = Path("mlperf-tiny") / "vww_96_int8.tflite"


def find_person_model(folder: Path) -> tuple[Path, str]:
    """Return the file of the person-detection int8 model and its name; without it a float model of the same
    input that is made into ``folder``, whose figures say something of the serving only."""
    given = os.environ.get(VARIABLE)
    if given and (Path(given) / PERSON).is_file():
        return Path(given) / PERSON, "person detection int8"
    print(f"  {VARIABLE} names no folder that holds {PERSON}: a dense float model of the same input instead")
    file = folder / "dense_96.tflite"
    file.write_bytes(make_image_classifier(96, 96, 3))
    return file, "dense float"


def pack(file: Path) -> Package:
    """Return a package of this file, with golden vectors of random inputs."""
    request = ImportRequest(
        file=file,
        labels=None,
        samples=None,
        golden=None,
        preprocessing=Preprocessing(colour="rgb", scale=1 / 255),
    )
    return import_model(request)
