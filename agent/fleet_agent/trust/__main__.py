"""The trust child: one JSON request on standard input, one JSON answer on standard output."""

import logging
import sys
from typing import Final

import msgspec
from typing_extensions import assert_never

from fleet_agent.trust.identity import accept_enrolment, make_key, read_certificate
from fleet_agent.trust.protocol import (
    AcceptEnrolment,
    MakeKey,
    ReadCertificate,
    Refused,
    TrustAnswer,
    TrustRequest,
    VerifyDesired,
)
from fleet_agent.trust.trouble import PassingError, map_os_error
from fleet_agent.trust.verify import verify_desired
from fleet_shared.errors import FleetError

REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024


def answer(request: TrustRequest) -> TrustAnswer:  # noqa: PLR0911 - one for each request, and troubles
    """Answer one request; every trouble is a `Refused`."""
    try:
        match request:
            case MakeKey():
                return make_key(request)
            case AcceptEnrolment():
                return accept_enrolment(request)
            case ReadCertificate():
                return read_certificate(request)
            case VerifyDesired():
                return verify_desired(request)
            case _ as never:
                assert_never(never)
    except FleetError as exc:
        return _refuse(exc)
    except OSError as exc:
        return _refuse(map_os_error(exc))
    except Exception as exc:  # the outermost guard: the supervisor needs an answer
        logging.getLogger(__name__).exception("the trust child failed")
        return Refused(code="trust.internal", message=f"{type(exc).__name__}: {exc}", retry=True)


def _refuse(exc: FleetError) -> Refused:
    return Refused(code=exc.code, message=exc.message, hint=exc.hint, retry=isinstance(exc, PassingError))


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s trust: %(message)s")
    raw = sys.stdin.buffer.read(REQUEST_BYTES_MAX)
    sys.stdout.buffer.write(msgspec.json.encode(answer(msgspec.json.decode(raw, type=TrustRequest))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
