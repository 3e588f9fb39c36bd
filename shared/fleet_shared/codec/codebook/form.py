"""What the encoder and the decoder must agree on beside the coders."""

from typing import Final

MAGIC: Final = b"FCB\x01"
GROUP_BYTES: Final = 1 << 20
"""Plain bytes that are packed together."""
PIECE_VALUES: Final = 1 << 16
"""Values that are decoded at once: a device can give up in between."""
GROUP_WORK: Final = 1024
PIECE_WORK: Final = 16
"""What one takes at least, in units of work: neither comes for nothing, however little is in it."""
SAME, NEW = 0, 1
"""A piece goes on with the model of the piece before, or brings one."""
