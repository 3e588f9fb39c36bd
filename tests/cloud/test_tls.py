"""Files of TLS that are replaced while a broker and a controller run."""

from pathlib import Path

import pytest

from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import TlsFiles
from fleet_cloud.tls import RenewedClientContext, RenewedTls
from tests.kit.certificates import LOOPBACK, TestAuthority


def test_a_context_is_made_anew_when_a_file_changed_and_only_then(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    party = authority.issue("broker", hosts=[LOOPBACK])
    renewed = RenewedTls(party.tls, server=True)
    first = renewed.current()
    assert renewed.current() is first
    authority.issue("broker", hosts=[LOOPBACK])
    assert renewed.current() is not first


def test_files_that_do_not_fit_together_yet_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = TestAuthority(tmp_path)
    tls = authority.issue("broker", hosts=[LOOPBACK]).tls
    renewed = RenewedTls(tls, server=True)
    first, key = renewed.current(), tls.key.read_bytes()
    later = authority.issue("broker", hosts=[LOOPBACK], folder=tmp_path / "later").tls
    tls.key.write_bytes(later.key.read_bytes())
    assert renewed.current() is first
    assert "those from before are used on" in caplog.text
    tls.key.unlink()
    assert renewed.current() is first
    tls.key.write_bytes(key)
    tls.authorities.write_text("")
    assert renewed.current() is first
    tls.key.write_bytes(later.key.read_bytes())
    tls.certificate.write_bytes(later.certificate.read_bytes())
    tls.authorities.write_bytes(authority.pem)
    assert renewed.current() is not first


@pytest.mark.parametrize("missing", ["authorities", "certificate", "key"])
def test_files_that_are_not_there_at_the_start_are_said(tmp_path: Path, missing: str) -> None:
    tls: TlsFiles = TestAuthority(tmp_path).issue("ctl-1").tls
    path: Path = getattr(tls, missing)
    path.unlink()
    for make in (lambda: RenewedTls(tls, server=True), lambda: RenewedClientContext.of(tls)):
        with pytest.raises(SettingsError) as caught:
            make()
        assert caught.value.code == "tls.files"
        assert str(tls.certificate) in str(caught.value)
