"""The trust child: a request on standard input, its answer on standard output; see `protocol`."""

import logging
import sys
from typing import IO

import msgspec
from typing_extensions import assert_never

from fleet_agent.trust.fetching import Asked
from fleet_agent.trust.framing import read_frame, write_frame
from fleet_agent.trust.identity import accept_enrolment, make_key, read_certificate, store_certificate
from fleet_agent.trust.protocol import (
    AcceptEnrolment,
    FileAnswer,
    FileFailed,
    GivenFile,
    MakeKey,
    NeedFile,
    ReadCertificate,
    Refresh,
    Refused,
    StoreCertificate,
    TrustAnswer,
    TrustRequest,
    VerifyDesired,
)
from fleet_agent.trust.trouble import PassingError, map_os_error
from fleet_agent.trust.verify import refresh, verify_desired
from fleet_shared.errors import FleetError


class Dialogue:
    """The supervisor, which may bring files of the release repository on another way."""

    def __init__(self, inward: IO[bytes], outward: IO[bytes]) -> None:
        self._inward, self._outward = inward, outward

    def read_request(self) -> TrustRequest:
        request: TrustRequest = msgspec.json.decode(read_frame(self._inward) or b"", type=TrustRequest)
        return request

    def fetch(self, path: str, length_max: int) -> bytes:
        """Raises `Asked` when the supervisor has no such file, or no way to it."""
        write_frame(self._outward, msgspec.json.encode(NeedFile(path=path, length_max=length_max)))
        given: FileAnswer = msgspec.json.decode(read_frame(self._inward) or b"", type=FileAnswer)
        match given:
            case GivenFile(content=content):
                return content
            case FileFailed(message=message, retry=retry):
                raise Asked(message, retry=retry)
            case _ as never:
                assert_never(never)

    def answer(self, answer: TrustAnswer) -> None:
        write_frame(self._outward, msgspec.json.encode(answer))


def answer(request: TrustRequest, dialogue: Dialogue) -> TrustAnswer:
    """Answer one request; every trouble is a `Refused`."""
    try:
        return _carry_out(request, dialogue)
    except FleetError as exc:
        return _refuse(exc)
    except OSError as exc:
        return _refuse(map_os_error(exc))
    except Exception as exc:  # the outermost guard: the supervisor needs an answer
        logging.getLogger(__name__).exception("the trust child failed")
        return Refused(code="trust.internal", message=f"{type(exc).__name__}: {exc}", retry=True)


def _carry_out(request: TrustRequest, dialogue: Dialogue) -> TrustAnswer:
    match request:
        case MakeKey():
            return make_key(request)
        case AcceptEnrolment():
            return accept_enrolment(request)
        case ReadCertificate():
            return read_certificate(request)
        case StoreCertificate():
            return store_certificate(request)
        case Refresh():
            return refresh(request, dialogue.fetch)
        case VerifyDesired():
            return verify_desired(request, dialogue.fetch)
        case _ as never:
            assert_never(never)


def _refuse(exc: FleetError) -> Refused:
    return Refused(code=exc.code, message=exc.message, hint=exc.hint, retry=isinstance(exc, PassingError))


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s trust: %(message)s")
    dialogue = Dialogue(sys.stdin.buffer, sys.stdout.buffer)
    dialogue.answer(answer(dialogue.read_request(), dialogue))
    return 0
