"""TLS as a device speaks it: who the other side is, is judged in the handshake; its dates afterwards, by the
device's own time, which OpenSSL does not know.

A machine without a clock boots in 1970, where every certificate begins in the future. So dates are left out
of the handshake (X509_V_FLAG_NO_CHECK_TIME), and judged before the first byte of the application is sent. An
end is judged by the time that it is at least; a begin only by a wall clock that is believed: of a floor it
is known that it lies in the past, and a certificate may be younger.

The files are read for each context: a renewed certificate and new authorities are used with the next
connection.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from fleet_agent.floor import DeviceTime

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL; Python has no name for it."""
DAY_S: Final = 86_400

Certificate = Mapping[str, Any]
"""As `ssl.SSLSocket.getpeercert` describes one."""


class DatesError(ssl.SSLError):
    """The certificate is of whom it should be, and out of date."""


def judge_dates(certificate: Certificate, authorities: Iterable[Certificate], time: DeviceTime) -> str:
    """Return what is wrong with the dates of a verified certificate, or of the authority that signed it;
    empty when nothing is. Of several authorities with one name, one with right dates is enough."""
    if trouble := _judge_one(certificate, "its certificate", time):
        return trouble
    issuers = [one for one in authorities if one["subject"] == certificate["issuer"]]
    troubles = [_judge_one(one, "the authority of its certificate", time) for one in issuers]
    return troubles[0] if troubles and all(troubles) else ""


def _judge_one(certificate: Certificate, what: str, time: DeviceTime) -> str:
    begin_s = ssl.cert_time_to_seconds(certificate["notBefore"])
    end_s = ssl.cert_time_to_seconds(certificate["notAfter"])
    if time.now_ms > end_s * 1000:
        return f"{what} ended {(time.now_ms / 1000 - end_s) / DAY_S:.1f} days ago"
    if time.wall_ms is not None and time.wall_ms < begin_s * 1000:
        return f"{what} begins in {(begin_s - time.wall_ms / 1000) / DAY_S:.1f} days"
    return ""


class DatedSocket(ssl.SSLSocket):
    """Made by `DatedContext` only. Closes itself when the handshake fails: not every user of it does."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self._judge()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on later
        except BaseException:
            self.close()
            raise

    def _judge(self) -> None:
        context, certificate = cast("DatedContext", self.context), self.getpeercert()
        if not certificate:
            return
        if trouble := judge_dates(certificate, context.get_ca_certs(), context.now()):
            raise DatesError(1, f"{trouble}, as far as this device knows the time")


class DatedContext(ssl.SSLContext):
    """``now`` gives the device's time at the moment of a handshake."""

    sslsocket_class = DatedSocket
    now: Callable[[], DeviceTime]


def broker_context(identity: Path, now: Callable[[], DeviceTime]) -> ssl.SSLContext:
    """Return the terms of a connection to the broker: its certificate must be of the controller's
    authorities and for its name, and this device shows its own. Raises `OSError`, also for files that
    are damaged."""
    context = _context(now)
    context.load_verify_locations(cafile=str(identity / "ca.pem"))
    context.load_cert_chain(str(identity / "certificate.pem"), str(identity / "key.pem"))
    return context


def https_context(authorities: str, now: Callable[[], DeviceTime]) -> ssl.SSLContext:
    """Return the terms of HTTPS: a certificate of the controller's ``authorities`` (PEM, may be empty), or of
    one that the system believes (a store of blobs has a certificate of the public). Raises `OSError`."""
    context = _context(now)
    context.load_default_certs()
    if authorities:
        context.load_verify_locations(cadata=authorities)
    return context


def stranger_context() -> ssl.SSLContext:
    """Return the terms for what proves itself, whoever brings it: signed metadata, and authorities whose
    digest is known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _context(now: Callable[[], DeviceTime]) -> DatedContext:
    context = DatedContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the name
    context.now = now
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags = ssl.VerifyFlags(int(context.verify_flags) | NO_CHECK_TIME)
    return context
