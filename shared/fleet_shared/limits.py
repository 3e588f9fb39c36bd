"""Every size, time-out and count that both sides must agree on, with its unit in the name.

What belongs to one side only lives in that side's settings.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Names
DEVICE_ID_CHARS: Final = 63
NAME_CHARS: Final = 64
LABEL_CHARS: Final = 63
LABELS_PER_DEVICE: Final = 64

# MQTT messages. Brokers and small devices choke on more than 128 KiB.
PRESENCE_BYTES: Final = 1 * KIB
REPORTED_BYTES: Final = 64 * KIB
DESIRED_BYTES: Final = 64 * KIB
TELEMETRY_BYTES: Final = 96 * KIB
ACK_BYTES: Final = 32 * KIB
FETCH_BYTES: Final = 4 * KIB
CHUNK_BYTES: Final = 100 * KIB
PART_BYTES: Final = 96 * KIB
"""Content of one chunk; the rest is for its head."""
RELEASES_BYTES: Final = 16 * KIB

# Telemetry
ROWS_PER_BATCH: Final = 200
ROW_BYTES: Final = 8 * KIB
FAILURE_TEXT_BYTES: Final = 1000
FACT_BYTES: Final = 200
CLASSES_PER_SAMPLE: Final = 50
CLASS_NAME_BYTES: Final = 64

# Documents
MANIFEST_BYTES: Final = 512 * KIB
ENROLMENT_BYTES: Final = 256 * KIB
TOKEN_CHARS: Final = 1024
BLOB_BYTES: Final = 2 * 1024 * MIB

# The encoding `codebook`, which devices decode in pure Python
CODEBOOK_BYTES: Final = 32 * MIB
"""Plain bytes of one file."""
CODEBOOK_WORK: Final = 4_000_000
"""Decisions of the adaptive coder in one file: about 4 s on a workstation, 20 s on a Raspberry Pi 4."""

# Time
BLOB_URL_LIFE_S: Final = 300
DESIRED_LIFE_S: Final = 90 * 24 * 3600

# Offline. A device that comes back within `OFFLINE_GRACE_S` needs no hand: its certificate is valid still,
# since it is renewed when that much of its life is left, and what was signed meanwhile is fetched first.
CERTIFICATE_LIFE_S: Final = 180 * 24 * 3600
OFFLINE_GRACE_S: Final = 120 * 24 * 3600
SERVER_CERTIFICATE_LIFE_S: Final = 90 * 24 * 3600
