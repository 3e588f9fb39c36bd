"""Checks of what binds this device to its controller: enrolment, certificate, link."""

import socket
import ssl
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fleet_agent.doctor.finding import Found, attention, failed, ok
from fleet_agent.floor import DeviceTime
from fleet_agent.identity import Identity
from fleet_agent.link.note import load_note
from fleet_agent.paths import StatePaths
from fleet_agent.status import describe_link, describe_trust
from fleet_agent.tls import DatesError, broker_context, https_context
from fleet_agent.trust.protocol import CertificateRead, ReadCertificate, TrustAnswer
from fleet_agent.trust_process import TrustProcess
from fleet_agent.trust_report import load_note as load_trust_note
from fleet_shared.messages.enrolment import BrokerAddress

Now = Callable[[], DeviceTime]
"""Gives the time by which dates are judged."""

CONNECT_TIMEOUT_S: Final = 5.0
SOON_MS: Final = 30 * 86_400_000
NOT_AUTHORIZED: Final = "Not authorized"
"""As brokers refuse a device that is revoked, or unknown."""
REFUSED_HINT: Final = "is it revoked? on the controller: fleet device readmit; or enrol it anew"


def check_certificate(paths: StatePaths, now_ms: int | None) -> Found:
    key = paths.identity / "key.pem"
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as exc:
        return failed(f"the device's key cannot be looked at: {exc}", "enrol this device again")
    if mode & 0o077:
        return failed(
            f"{key} may be read by others (mode {mode:o})",
            f"chmod 600 {key}; if others were here, enrol anew",
        )
    answer = TrustProcess().ask(ReadCertificate(identity_dir=str(paths.identity)))
    return judge_certificate(answer, now_ms)


def judge_certificate(answer: TrustAnswer, now_ms: int | None) -> Found:
    """``now_ms``: none while nobody knows the time; then dates are not judged."""
    again = "enrol this device again: fleet device token, then fleet-agent enrol"
    if not isinstance(answer, CertificateRead):
        return failed(getattr(answer, "message", "the certificate could not be read"), again)
    days = None if now_ms is None else (answer.not_after_ms - now_ms) // 86_400_000
    if now_ms is not None and now_ms >= answer.not_after_ms:
        return failed(f"the certificate of {answer.device} ended {-(days or 0)} days ago", again)
    if now_ms is not None and now_ms < answer.not_before_ms:
        return failed("the certificate begins in the future", "is this device's clock right?")
    if now_ms is not None and answer.not_after_ms - now_ms < SOON_MS:
        return attention(f"the certificate of {answer.device} ends in {days} days", again)
    left = "" if days is None else f", {days} days left"
    return ok(f"of {answer.device}, for this device's key{left}")


def check_trust(paths: StatePaths, now_ms: int | None) -> Found:
    """Whether what this device knows of the releases is fresh."""
    report = load_trust_note(paths.trust_report).report
    said, ends_ms = describe_trust(report), report.metadata_expires_ms
    if ends_ms is not None and now_ms is not None and now_ms > ends_ms:
        return attention(said, "it cannot verify a new model before it reaches its controller again")
    return ok(said)


def check_broker(identity: Identity, paths: StatePaths, now: Now, *, running: bool) -> Found:
    broker = identity.broker
    note = load_note(paths.link)
    last = describe_link(note, running=running, why=False)
    trouble = try_broker(broker, paths.identity, now)
    if trouble:
        return failed(
            f"{broker.host}:{broker.port} cannot be reached: {trouble}; the agent {last}",
            "is the network up, the address right?",
        )
    if running and (note is None or not note.online):
        return failed(
            f"{broker.host}:{broker.port} answers, but the agent is not connected: "
            f"{describe_link(note, running=running)}",
            hint_for("" if note is None else note.reason),
        )
    return ok(f"{broker.host}:{broker.port} answers; the agent {last}")


def hint_for(reason: str) -> str:
    """Return what to do about a broker that is there and away."""
    return REFUSED_HINT if NOT_AUTHORIZED in reason else "see the agent's log"


def try_broker(broker: BrokerAddress, identity: Path, now: Now) -> str:
    """Return what keeps this device from the broker; empty when it answers."""
    try:
        with closing(socket.create_connection((broker.host or "", broker.port), CONNECT_TIMEOUT_S)) as plain:
            if broker.tls:
                with broker_context(identity, now).wrap_socket(plain, server_hostname=broker.host):
                    return ""
    except ssl.SSLCertVerificationError as exc:
        return f"its certificate is not accepted: {exc.verify_message}"
    except OSError as exc:
        return exc.strerror or str(exc)
    except ValueError as exc:
        return str(exc)
    return ""


def check_controller(identity: Identity, paths: StatePaths, now: Now) -> Found:
    parts = urlsplit(identity.controller_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with closing(socket.create_connection((parts.hostname or "", port), CONNECT_TIMEOUT_S)) as plain:
            if parts.scheme == "https":
                context = https_context(paths.authorities.read_text(), now)
                with context.wrap_socket(plain, server_hostname=parts.hostname):
                    pass
    except (ssl.SSLCertVerificationError, DatesError) as exc:
        why = exc.strerror if isinstance(exc, DatesError) else exc.verify_message
        return failed(
            f"{identity.controller_url}: its certificate is not accepted: {why}",
            "its name and dates must fit; is this device's clock right?",
        )
    except (OSError, ValueError) as exc:
        return attention(
            f"{identity.controller_url} cannot be reached: {getattr(exc, 'strerror', None) or exc}",
            "models come over the broker instead, more slowly, unless transfers = http",
        )
    return ok(f"{identity.controller_url} answers")
