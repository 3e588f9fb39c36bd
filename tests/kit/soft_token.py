"""A PKCS#11 token in software (SoftHSM2), with ECDSA P-256 keys in it."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)
PIN = "123456"
LABEL = "fleet-test"


@dataclass(frozen=True)
class SoftToken:
    """``environment``: what a process needs to find the token."""

    module: str
    environment: Mapping[str, str]

    def uri(self, keyid: int) -> str:
        return f"hsm:{keyid}?label={LABEL}"


def make_token(folder: Path, keyids: tuple[int, ...]) -> SoftToken:
    """Make a token with a key for each id; skips where there is no SoftHSM2. It sets the environment of this
    process: the module reads it when it is loaded."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    util = shutil.which("softhsm2-util")
    if module is None or util is None:
        pytest.skip("SoftHSM2 is not installed: apt-get install softhsm2")
    pytest.importorskip("pkcs11")
    tokens = folder / "tokens"
    tokens.mkdir(parents=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\n")
    environment = {"SOFTHSM2_CONF": str(configuration), "PYKCS11LIB": module}
    os.environ.update(environment)
    command = [util, "--init-token", "--free", "--label", LABEL, "--pin", PIN, "--so-pin", "12345678"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    _make_keys(module, keyids)
    return SoftToken(module, environment)


def _make_keys(module: str, keyids: tuple[int, ...]) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    token = pkcs11.lib(module).get_token(token_label=LABEL)
    with token.open(user_pin=PIN, rw=True) as session:
        for keyid in keyids:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            parameters.generate_keypair(store=True, id=keyid.to_bytes(1, "big"), label=f"key{keyid}")
