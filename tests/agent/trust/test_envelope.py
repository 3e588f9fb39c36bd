"""The signed envelope as a released controller wrote it: read for ever, and written the same."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_agent.errors import TrustError
from fleet_agent.trust.desired import check_desired, open_envelope
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_shared.envelope import ASSIGNMENT_KEY_TARGET, DESIRED_PAYLOAD_TYPE, AssignmentKey, manifest_target
from fleet_shared.messages.desired import Desired
from fleet_shared.names import DeviceId
from fleet_shared.wire import decode
from tests.shared.messages.samples import DIGEST, SAMPLES

GOLDEN = Path(__file__).parents[2] / "shared/messages/golden/v1/envelope"
RAW = (GOLDEN / "desired.json").read_bytes()
RAW_WITH_POLICY = (GOLDEN / "desired-policy.json").read_bytes()
KEY = decode(AssignmentKey, (GOLDEN / "key.json").read_bytes())
DESIRED, DESIRED_WITH_POLICY = SAMPLES["desired"], SAMPLES["desired-policy"]


@pytest.mark.parametrize(("raw", "desired"), [(RAW, DESIRED), (RAW_WITH_POLICY, DESIRED_WITH_POLICY)])
def test_the_golden_envelopes_open_with_their_key(raw: bytes, desired: Desired) -> None:
    payload = open_envelope(raw, KEY)
    assert check_desired(payload, DeviceId("pi-1"), KEY) == desired


def test_the_names_that_both_sides_must_keep() -> None:
    assert DESIRED_PAYLOAD_TYPE == "application/vnd.fleet.desired.v1+json"
    assert ASSIGNMENT_KEY_TARGET == "keys/assignment.json"
    assert manifest_target(DIGEST) == f"manifests/{DIGEST}.json"


def test_the_controller_writes_the_golden_envelope(tmp_path: Path) -> None:
    """Ed25519 signs the same bytes the same way, so the whole envelope can be compared."""
    keys = tmp_path / "keys"
    keys.mkdir()
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (keys / "assignment.pem").write_bytes(pem)
    assert isinstance(DESIRED_WITH_POLICY, Desired)
    signed = json.loads(ControllerTrust(tmp_path).sign_desired(DESIRED_WITH_POLICY))
    assert signed == json.loads(RAW_WITH_POLICY)


@pytest.mark.parametrize("field", ["payload", "payloadType", "sig"])
def test_every_part_of_the_envelope_is_signed(field: str) -> None:
    document = json.loads(RAW)
    if field == "payload":
        payload = base64.b64decode(document["payload"]).replace(b'"generation":2', b'"generation":3')
        document["payload"] = base64.b64encode(payload).decode()
    elif field == "payloadType":
        document["payloadType"] = "application/vnd.fleet.other+json"
    else:
        signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
        signature[5] ^= 1
        document["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    with pytest.raises(TrustError) as caught:
        open_envelope(json.dumps(document).encode(), KEY)
    assert caught.value.code in ("trust.desired.signature", "trust.desired.type")
