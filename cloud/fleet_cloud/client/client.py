"""Each call of the API as a method; problem documents become errors again."""

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from fleet_cloud.addresses import is_loopback
from fleet_cloud.client.authorities import open_authorities, open_certificate
from fleet_cloud.client.views import (
    ApiTokenView,
    ArtifactView,
    AuditEntryView,
    AuthoritiesView,
    AuthorityRotationRequest,
    BuildClaimRequest,
    BuildClaimView,
    BuildEventView,
    BuildJobRequest,
    BuildJobView,
    BuildReportRequest,
    ChangeView,
    DeviceView,
    EnrolmentTokenView,
    EventView,
    HealthView,
    LabelRequest,
    MeasurementView,
    NewApiTokenView,
    Page,
    PolicyRequest,
    Problem,
    RevocationRequest,
    RevokedView,
    RolloutRequest,
    RolloutView,
    RotationRequest,
    SeriesView,
    StatusView,
    StrangerView,
    TokenRequest,
    TokenView,
    TotalsView,
    TrustView,
    VersionView,
    WhoView,
)
from fleet_cloud.errors import CloudError, Conflict, Forbidden, Invalid, NotFound, TooMany, Unavailable
from fleet_cloud.masking import mask_url
from fleet_shared.errors import InvalidName
from fleet_shared.messages.desired import Policy
from fleet_shared.names import Digest

TIMEOUT_S: Final = 60.0
STORING_TIMEOUT_S: Final = 300.0
"""For blobs and versions: blobs go on to the object store, and small models are packed meanwhile;
large ones later, whatever they take."""

PAGE: Final = 200
AUDIT_PAGE: Final = 1000

T = TypeVar("T")

_ERRORS: Final[Mapping[int, type[CloudError]]] = {
    400: Invalid,
    401: Forbidden,
    408: Unavailable,
    415: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
}


class Client:
    """Raises `CloudError` subclasses with the controller's own code and hint."""

    def __init__(
        self, server: str, token: str | None = None, ca_file: str | None = None, *, exact: bool = False
    ) -> None:
        """``ca_file``: the authorities (PEM) by which to know the server, the system's without; ``exact``:
        the server's own certificate."""
        self._server = mask_url(server)
        headers = {"Authorization": f"Bearer {_check_token(token)}"} if token else {}
        open_trusted = open_certificate if exact else open_authorities
        verify = True if ca_file is None else open_trusted(ca_file)
        try:
            self._http = httpx.Client(
                base_url=f"{server}/api/v1",
                headers=headers,
                timeout=TIMEOUT_S,
                verify=verify,
                mounts=_without_proxy(server),
            )
        except (httpx.InvalidURL, ValueError) as exc:
            raise self._no_address() from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def health(self) -> HealthView:
        return self._get("/health", HealthView)

    def status(self) -> StatusView:
        return self._get("/status", StatusView)

    def create_token(
        self, labels: Mapping[str, str], life_s: int, *, uses: int = 1, device: str | None = None
    ) -> str:
        """``device``: a known one, which gets a new key with it."""
        request = TokenRequest(labels=dict(labels), life_s=life_s, uses=uses, device=device)
        return self._send("POST", "/enrolment-tokens", request, TokenView).token

    def trust(self) -> TrustView:
        return self._get("/trust", TrustView)

    def to_sign(self) -> bytes:
        """Return the file that is carried to the release keys."""
        return self._checked(self._call("GET", "/trust/to-sign")).content

    def put_signed(self, signed: bytes) -> TrustView:
        headers = {"Content-Type": "application/json"}
        response = self._call("POST", "/trust/signed", content=signed, headers=headers)
        return self._read(self._checked(response), TrustView)

    def rotate(self, role: str, keys: Sequence[str], threshold: int | None) -> TrustView:
        request = RotationRequest(role=role, keys=list(keys), threshold=threshold)
        return self._send("POST", "/trust/rotations", request, TrustView)

    def revoke_key(self, keyid: str) -> TrustView:
        return self._send("POST", "/trust/revocations", RevocationRequest(keyid=keyid), TrustView)

    def enrolment_tokens(self) -> list[EnrolmentTokenView]:
        return self._get("/enrolment-tokens", list[EnrolmentTokenView])

    def revoke_enrolment_token(self, token: str) -> EnrolmentTokenView:
        return self._delete(_path("enrolment-tokens", token), EnrolmentTokenView)

    def revoke_device(self, device: str) -> RevokedView:
        return self._send("POST", _path("devices", device, "revocation"), {}, RevokedView)

    def readmit_device(self, device: str) -> DeviceView:
        return self._delete(_path("devices", device, "revocation"), DeviceView)

    def strangers(self) -> list[StrangerView]:
        return self._get("/strangers", list[StrangerView])

    def authorities(self) -> AuthoritiesView:
        return self._get("/authorities/rotation", AuthoritiesView)

    def rotate_authority(self, *, finish: bool = False, force: bool = False) -> AuthoritiesView:
        request = AuthorityRotationRequest(finish=finish, force=force)
        return self._send("POST", "/authorities/rotation", request, AuthoritiesView)

    def whoami(self) -> WhoView:
        return self._get("/whoami", WhoView)

    def create_api_token(self, name: str, role: str, life_s: int | None) -> NewApiTokenView:
        body = {"name": name, "role": role, "life_s": life_s}
        return self._send("POST", "/tokens", body, NewApiTokenView)

    def api_tokens(self) -> list[ApiTokenView]:
        return self._get("/tokens", list[ApiTokenView])

    def revoke_api_token(self, token: str) -> ApiTokenView:
        """By name or id."""
        return self._read(self._checked(self._call("DELETE", _path("tokens", token))), ApiTokenView)

    def audit(self, after: int = 0) -> Iterator[AuditEntryView]:
        """Entries above ``after``, oldest first."""
        start = None if after == 0 else str(after)
        return self._pages("/audit", Page[AuditEntryView], start=start, limit=AUDIT_PAGE)

    def devices(self, selector: str = "all") -> Iterator[DeviceView]:
        return self._pages("/devices", Page[DeviceView], selector=selector)

    def device(self, device: str) -> DeviceView:
        return self._get(_path("devices", device), DeviceView)

    def label(self, device: str, added: Mapping[str, str], removed: Sequence[str]) -> DeviceView:
        request = LabelRequest(set=dict(added), remove=list(removed))
        return self._send("PATCH", _path("devices", device, "labels"), request, DeviceView)

    def models(self) -> list[VersionView]:
        """The newest version of each model."""
        return list(self._pages("/models", Page[VersionView]))

    def versions(self, model: str) -> list[VersionView]:
        return list(self._pages(_path("models", model), Page[VersionView]))

    def version(self, model: str, version: str) -> VersionView:
        return self._get(_path("models", model, "versions", version), VersionView)

    def create_version(self, model: str, draft: object) -> VersionView:
        path = _path("models", model, "versions")
        return self._send("POST", path, draft, VersionView, timeout_s=STORING_TIMEOUT_S)

    def artifacts(self, model: str, version: str) -> list[ArtifactView]:
        """What is kept with a version for people."""
        return self._get(_path("models", model, "versions", version, "artifacts"), list[ArtifactView])

    def save_artifact(self, model: str, version: str, name: str, target: IO[bytes]) -> int:
        """Write an artifact to ``target`` as it comes; return its bytes. Raises `Unavailable`
        (``artifact.damaged``) when it is not what the controller has: ``target`` then holds it in part."""
        path = _path("models", model, "versions", version, "artifacts", *name.split("/"))
        digest, size = hashlib.sha256(), 0
        with self._translated(), self._http.stream("GET", path, timeout=STORING_TIMEOUT_S) as response:
            if not response.is_success:
                response.read()
            self._checked(response)
            for part in response.iter_bytes():
                digest.update(part)
                size += target.write(part)
        if response.headers.get("ETag") != f'"{digest.hexdigest()}"':
            raise Unavailable(
                f"artifact {name!r} came damaged from {self._server}",
                hint="try again",
                code="artifact.damaged",
            )
        return size

    def read_artifact(self, model: str, version: str, name: str) -> bytes:
        """Return an artifact that fits the memory, such as a report. Raises as `save_artifact`."""
        target = io.BytesIO()
        self.save_artifact(model, version, name, target)
        return target.getvalue()

    def put_blob(self, sha256: Digest, content: bytes) -> None:
        """Upload a blob, unless the controller has it."""
        path = _path("blobs", sha256)
        if self._call("HEAD", path).status_code == 200:
            return
        self._checked(self._call("PUT", path, content=content, timeout=STORING_TIMEOUT_S))

    def save_blob(self, sha256: Digest, target: IO[bytes]) -> None:
        """Write a blob to ``target`` as it comes. Raises `Unavailable` (``blob.damaged``) when it is not what
        was asked for."""
        digest = hashlib.sha256()
        path = _path("blobs", sha256)
        with self._translated(), self._http.stream("GET", path, timeout=STORING_TIMEOUT_S) as response:
            if not response.is_success:
                response.read()
            self._checked(response)
            for part in response.iter_bytes():
                digest.update(part)
                target.write(part)
        if digest.hexdigest() != sha256:
            raise Unavailable(f"blob {sha256} came damaged", hint="try again", code="blob.damaged")

    def create_build(self, model: str, bundle: Digest, version: str | None) -> BuildJobView:
        request = BuildJobRequest(model=model, bundle=bundle, version=version)
        return self._send("POST", "/builds", request, BuildJobView)

    def builds(self) -> list[BuildJobView]:
        return self._get("/builds", list[BuildJobView])

    def build(self, job: str) -> BuildJobView:
        return self._get(_path("builds", job), BuildJobView)

    def build_events(self, job: str, after: int) -> list[BuildEventView]:
        """What the build said since; at most a page."""
        return self._get(_path("builds", job, "events"), Page[BuildEventView], after=after).items

    def cancel_build(self, job: str) -> BuildJobView:
        return self._send("POST", _path("builds", job, "cancellation"), {}, BuildJobView)

    def claim_build(self, worker: str) -> BuildClaimView:
        return self._send("POST", "/builds/claims", BuildClaimRequest(worker=worker), BuildClaimView)

    def report_build(self, job: str, report: BuildReportRequest) -> BuildJobView:
        return self._send("POST", _path("builds", job, "reports"), report, BuildJobView)

    def create_rollout(
        self, model: str, selector: str, *, variant: str | None, policy: Policy
    ) -> RolloutView:
        request = RolloutRequest(
            model=model, selector=selector, variant=variant, policy=PolicyRequest.of(policy)
        )
        return self._send("POST", "/rollouts", request, RolloutView)

    def rollout(self, rollout: str) -> RolloutView:
        return self._get(_path("rollouts", rollout), RolloutView)

    def rollouts(self) -> list[RolloutView]:
        return list(self._pages("/rollouts", Page[RolloutView]))

    def history(self, assignment: str) -> list[ChangeView]:
        return list(self._pages(_path("assignments", assignment, "history"), Page[ChangeView]))

    def series(
        self, device: str, *, metric: str | None, source: str | None, since_ms: int, limit: int
    ) -> list[SeriesView]:
        return self._get(
            _path("devices", device, "telemetry"),
            list[SeriesView],
            metric=metric,
            source=source,
            since_ms=since_ms,
            limit=limit,
        )

    def events(self, device: str, *, since_ms: int = 0, limit: int = 1000) -> list[EventView]:
        return self._get(_path("devices", device, "events"), list[EventView], since_ms=since_ms, limit=limit)

    def measurements(self, device: str) -> list[MeasurementView]:
        """What devices like this one measured of variants, newest first."""
        return self._get(_path("devices", device, "measurements"), list[MeasurementView])

    def totals(self, device: str) -> TotalsView:
        return self._get(_path("devices", device, "telemetry", "totals"), TotalsView)

    def _pages(
        self, path: str, kind: type[Page[T]], *, start: str | None = None, limit: int = 0, **query: Any
    ) -> Iterator[T]:
        after = start
        while True:
            page = self._get(path, kind, after=after, limit=limit or PAGE, **query)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def _get(self, path: str, kind: type[T], **query: Any) -> T:
        given = {key: value for key, value in query.items() if value is not None}
        return self._read(self._checked(self._call("GET", path, params=given)), kind)

    def _delete(self, path: str, kind: type[T]) -> T:
        return self._read(self._checked(self._call("DELETE", path)), kind)

    def _send(self, method: str, path: str, body: object, kind: type[T], timeout_s: float = TIMEOUT_S) -> T:
        response = self._call(
            method,
            path,
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/json"},
            timeout=timeout_s,
        )
        return self._read(self._checked(response), kind)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._translated():
            return self._http.request(method, path, **options)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise what goes wrong on the way as an error of the cloud."""
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise self._no_address() from exc
        except httpx.HTTPError as exc:
            # What the protocol refuses to send is not repeated: it may be the token.
            why = type(exc).__name__ if isinstance(exc, httpx.LocalProtocolError) else str(exc)
            if "CERTIFICATE_VERIFY_FAILED" in why:
                raise self._untrusted(why) from exc
            raise Unavailable(
                f"the controller at {self._server} cannot be reached: {why}",
                hint="is `fleet serve` running? name another with --server or FLEET_SERVER",
                code="controller.unreachable",
            ) from exc

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        try:
            problem = msgspec.json.decode(response.content, type=Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            problem = Problem(status=response.status_code, detail=f"status {response.status_code}")
        kind = _ERRORS.get(response.status_code, CloudError)
        raise kind(problem.detail, hint=problem.hint, code=problem.code)

    def _read(self, response: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise Unavailable(
                f"what answers at {self._server} is no controller of this version: {exc}",
                hint="check --server, and that CLI and controller have the same version",
                code="controller.unknown",
            ) from exc

    def _untrusted(self, why: str) -> Forbidden:
        return Forbidden(
            f"what answers at {self._server} does not prove that it is the controller: {why}",
            hint=f"sign in again, and compare the fingerprint that it shows: fleet login {self._server}",
            code="controller.untrusted",
        )

    def _no_address(self) -> Invalid:
        return Invalid(
            f"{self._server!r} is not the address of a controller",
            hint="for example --server http://127.0.0.1:8470",
            code="controller.address",
        )


def _path(*words: str) -> str:
    """Return the path of ``words``, each quoted; raise `InvalidName` for a word that a path cannot
    carry as one (some servers and proxies take ``%2F`` for a slash)."""
    for word in words:
        if word in ("", ".", "..") or "/" in word:
            raise InvalidName(f"{word!r} is not a name", hint="use letters, digits, '.', '_' and '-'")
    return "".join(f"/{quote(word, safe='')}" for word in words)


def _without_proxy(server: str) -> dict[str, None]:
    """Nobody else hears what is for this machine: a proxy that the environment names would get the token."""
    local = is_loopback(urlsplit(server).hostname or "")
    return dict.fromkeys(("http://", "https://", "all://")) if local else {}


def _check_token(token: str) -> str:
    """Return ``token``, or raise `Invalid` (``api.token``), which never repeats it."""
    if all("!" <= character <= "~" for character in token):
        return token
    raise Invalid(
        "the operator token has a character that is not printable ASCII, or a space",
        hint="is there a line end in it? FLEET_TOKEN, or --token",
        code="api.token",
    )
