"""Files of TLS that are replaced while a broker and a controller run."""

from pathlib import Path

import pytest

from fleet_cloud.errors import SettingsError
from fleet_cloud.services.ports import TlsFiles
from fleet_cloud.tls import RenewedClientContext, RenewedTls
from tests.kit.certificates import LOOPBACK, TestAuthority


def test_each_connection_gets_the_files_as_they_are_then(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    renewed = RenewedTls(authority.issue("broker", hosts=[LOOPBACK]).tls, server=True)
    first = renewed.make_context()
    assert len(first.get_ca_certs()) == 1
    authority.issue("broker", hosts=[LOOPBACK], believes=[authority, TestAuthority(tmp_path / "new", "2")])
    second = renewed.make_context()
    assert second is not first
    assert len(second.get_ca_certs()) == 2


def test_files_that_do_not_fit_together_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = TestAuthority(tmp_path)
    tls = authority.issue("broker", hosts=[LOOPBACK]).tls
    renewed = RenewedTls(tls, server=True)
    first, key = renewed.make_context(), tls.key.read_bytes()
    later = authority.issue("broker", hosts=[LOOPBACK], folder=tmp_path / "later").tls
    tls.key.write_bytes(later.key.read_bytes())
    assert renewed.make_context() is first
    assert renewed.make_context() is first
    assert caplog.text.count("those from before are used on") == 1
    tls.key.unlink()
    assert renewed.make_context() is first
    tls.key.write_bytes(key)
    tls.authorities.write_text("")
    assert renewed.make_context() is first
    tls.authorities.write_bytes(authority.pem)
    assert renewed.make_context() is not first


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
