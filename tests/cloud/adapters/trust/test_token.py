"""Release keys in a PKCS#11 token: SoftHSM2, in a process of its own, since a token module is loaded once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_cloud.adapters.trust.ceremony import Holders, begin_repository, write_token_public
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.signing import Signing
from fleet_cloud.errors import SettingsError
from fleet_shared.envelope import manifest_target
from fleet_shared.names import digest_of
from tests.kit.release_client import ReleaseClient
from tests.kit.soft_token import PIN, make_token


def test_root_and_targets_keys_in_a_token_release(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.cloud.adapters.trust.test_token import use; use(Path({!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script.format(str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if "Skipped" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


def use(folder: Path) -> None:
    token = make_token(folder, (1, 2, 3))

    def secret(name: str) -> str:
        assert name == "pin"
        return PIN

    trust_dir = folder / "trust"
    begin_repository(trust_dir, Holders([token.uri(1)]), Holders([token.uri(2)]), secret)
    trust = ControllerTrust(trust_dir)
    device = ReleaseClient(trust_dir, folder / "device", trust.repository.root_json)
    path = manifest_target(digest_of(b"one"))
    trust.release({digest_of(b"one"): b"one"})
    assert device.fetch(path) is None
    trust.take_signed(Signing(trust.to_sign(), [token.uri(2)], secret).sign()[0])
    assert device.fetch(path) == b"one"

    public = folder / "new.pub.json"
    write_token_public(token.uri(3), public, secret)
    trust.rotate("targets", [public.read_text()])
    keys = [token.uri(number) for number in (1, 2, 3)]
    after = trust.take_signed(Signing(trust.to_sign(), keys, secret).sign()[0])
    assert after.waiting == ()
    assert device.fetch(path) == b"one"
    _refuses(trust, token.uri(3), lambda _name: "999999")
    _refuses(trust, token.uri(9), secret)
    _refuses(trust, "hsm:1?label=other", secret)


def _refuses(trust: ControllerTrust, uri: str, secret: object) -> None:
    trust.release({digest_of(uri.encode()): uri.encode()})
    with pytest.raises(SettingsError) as caught:
        Signing(trust.to_sign(), [uri], secret).sign()  # type: ignore[arg-type]
    assert caught.value.code == "trust.token", caught.value
    assert caught.value.hint
