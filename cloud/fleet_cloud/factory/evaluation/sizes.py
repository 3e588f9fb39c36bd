"""Bytes of a file, as it lies and as it travels."""

import lzma

from fleet_cloud.factory.evaluation.results import Size
from fleet_shared.codec import Encoding, encode_parts


def measure_sizes(content: bytes) -> Size:
    return Size(file_bytes=len(content), wire_bytes=_measure_wire(content))


def _measure_wire(content: bytes) -> dict[str, int]:
    wire = {"identity": len(content), "xz": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))}
    wire["zstd"] = sum(map(len, encode_parts(Encoding.ZSTD, iter([content]), len(content))))
    return wire
