"""Enrolment: a token becomes an identity. Every step can be repeated after a loss."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fleet_agent.controller_http import ControllerHttp, UnreachableController
from fleet_agent.errors import EnrolmentError
from fleet_agent.floor import judge_time, load_floor_ms
from fleet_agent.identity import Identity, save_identity
from fleet_agent.paths import StatePaths
from fleet_agent.telemetry.clock import DeviceClock
from fleet_agent.trust.protocol import AcceptEnrolment, EnrolmentAccepted, KeyMade, MakeKey, Refused
from fleet_agent.trust_process import TrustProcess
from fleet_agent.update.record import RecordFile
from fleet_shared.errors import MessageError
from fleet_shared.messages.enrolment import EnrolReply, EnrolRequest
from fleet_shared.messages.reported import Order
from fleet_shared.names import DeviceId, digest_of, parse_device_id
from fleet_shared.token import EnrolmentToken
from fleet_shared.wire import decode, encode

RETRY_EVERY_S: Final = 2.0
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

PASSING: Final = frozenset({429, 502, 503, 504})
"""Answers of a controller, or of what stands before it, that says: later."""


class _Problem(msgspec.Struct):
    """RFC 9457, the members that matter here."""

    detail: str = ""
    code: str = "enrol.refused"
    hint: str = ""


def enrol(url: str, token: EnrolmentToken, device: DeviceId, paths: StatePaths, wait_s: float) -> Identity:
    """Enrol this device and store its identity; raise `EnrolmentError`, or `OSError` of the state
    folder. ``wait_s``: how long to keep trying while the controller is away or not ready."""
    url = _check_url(url)
    paths.identity.mkdir(mode=0o700, parents=True, exist_ok=True)
    trust = TrustProcess()
    key = trust.ask(MakeKey(identity_dir=str(paths.identity), device=device))
    if not isinstance(key, KeyMade):
        raise _refusal(key)
    request = EnrolRequest(secret=token.secret, device=device, csr_pem=key.csr_pem)
    clock = DeviceClock(partial(load_floor_ms, paths.floor))
    http = ControllerHttp(url, token.ca_sha256, lambda: judge_time(paths.floor, clock.now().wall_ms))
    reply = _retry(lambda: _post(http, encode(request)), wait_s)
    if digest_of(reply.root_json.encode()) == token.root_sha256:
        _forget_other_orders(paths, reply.root_json.encode())
    accepted = trust.ask(
        AcceptEnrolment(
            identity_dir=str(paths.identity),
            trust_dir=str(paths.trust),
            device=device,
            ca_sha256=token.ca_sha256,
            root_sha256=token.root_sha256,
            certificate_pem=reply.certificate_pem,
            ca_pem=reply.ca_pem,
            root_json=reply.root_json,
        )
    )
    if not isinstance(accepted, EnrolmentAccepted):
        raise _refusal(accepted)
    return _store(paths.identity, url, device, reply)


def warn_of(url: str) -> str:
    """Return what is wrong with an address that works; empty if nothing is. Raises `EnrolmentError`."""
    parts = urlsplit(_check_url(url))
    if parts.scheme != "http" or parts.hostname in LOOPBACK:
        return ""
    return "http is not encrypted, and whoever listens on the way can use the token: is there https?"


def suggest_device_id(hostname: str) -> DeviceId:
    """Return a valid device id close to ``hostname``."""
    cleaned = "".join(c if c.isalnum() and c.isascii() else "-" for c in hostname.lower()).strip("-")
    return parse_device_id(cleaned[:63] or "device")


def _store(folder: Path, url: str, device: DeviceId, reply: EnrolReply) -> Identity:
    host = reply.broker.host or urlsplit(url).hostname
    identity = Identity(
        device=device,
        controller_url=url,
        metadata_path=reply.metadata_path,
        targets_path=reply.targets_path,
        topic_root=reply.topic_root,
        broker=msgspec.structs.replace(reply.broker, host=host),
    )
    save_identity(folder, identity)
    return identity


def _forget_other_orders(paths: StatePaths, root: bytes) -> None:
    """What was accepted from another controller is no measure for this one; the trust child forgets its
    part. What the record says of the installed model stays."""
    try:
        if (paths.trust / "root.json").read_bytes() == root:
            return
        file = RecordFile(paths.record)
        record = file.load()
    except (FileNotFoundError, ValueError):  # the first enrolment; a damaged record is set aside at the start
        return
    if record is not None:
        file.save(msgspec.structs.replace(record, accepted=Order()))


def _check_url(url: str) -> str:
    """Return a base to which paths can be added: no query, no fragment, no user."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port of 70000
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable():
        raise EnrolmentError(
            f"{url!r} is not the address of a controller",
            hint="for example http://controller.local:8470",
            code="enrol.url",
        )
    return url.rstrip("/")


def _retry(post: Callable[[], EnrolReply], wait_s: float) -> EnrolReply:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return post()
        except UnreachableController:
            if not time.monotonic() + RETRY_EVERY_S <= deadline:  # none is left, or it is no number
                raise
            time.sleep(RETRY_EVERY_S)


def _post(http: ControllerHttp, body: bytes) -> EnrolReply:
    status, content = http.post("/api/v1/enrolments", body)
    if status != 200:
        raise _read_problem(status, content)
    try:
        return decode(EnrolReply, content)
    except MessageError as exc:
        raise EnrolmentError(f"what answers at {http.url} is no controller: {exc}", code="enrol.url") from exc


def _read_problem(status: int, body: bytes) -> EnrolmentError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        problem = _Problem(detail=f"the controller answered {status}", hint="is the address right?")
    kind = UnreachableController if status in PASSING else EnrolmentError
    return kind(problem.detail or f"status {status}", hint=problem.hint, code=problem.code)


def _refusal(answer: object) -> EnrolmentError:
    if isinstance(answer, Refused):
        return EnrolmentError(answer.message, hint=answer.hint, code=answer.code)
    return EnrolmentError("the trust child gave an answer to another question")
