"""Bytes of a file, as it lies and as it travels."""

from fleet_cloud.factory.evaluation.results import Size
from fleet_cloud.factory.wire import measure_wire


def measure_sizes(content: bytes) -> Size:
    return Size(file_bytes=len(content), wire_bytes=measure_wire(content))
