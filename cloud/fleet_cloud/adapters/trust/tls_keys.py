"""Keys of servers and of the controller as a client. Nobody pins them: a lost one is made anew."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleet_shared.durable import write_durably


def load_or_make_key(file: Path) -> EllipticCurvePrivateKey:
    """Return the key in ``file``; one that is missing or damaged is made, readable by its owner only."""
    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return _make(file)
    return key if isinstance(key, EllipticCurvePrivateKey) else _make(file)


def _make(file: Path) -> EllipticCurvePrivateKey:
    key = generate_private_key(SECP256R1())
    write_durably(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    return key
