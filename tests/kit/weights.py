"""Weights as compression leaves them."""

import random
import struct


def clustered(count: int, seed: int, *, zeros: float = 0.0, entries: int = 32) -> bytes:
    """Floats as clustering leaves them: few values, the small ones more often."""
    draw = random.Random(seed)
    values = sorted(draw.gauss(0, 0.1) for _ in range(entries))
    chosen = (0.0 if draw.random() < zeros else values[min(entries - 1, int(abs(draw.gauss(0, entries / 4))))]
              for _ in range(count))  # fmt: skip
    return b"".join(struct.pack("<f", value) for value in chosen)


def pruned_int8(count: int, seed: int, zeros: float) -> bytes:
    draw = random.Random(seed)
    drawn = (
        0 if draw.random() < zeros else max(-127, min(127, round(draw.gauss(0, 30)))) for _ in range(count)
    )
    return bytes(value % 256 for value in drawn)
