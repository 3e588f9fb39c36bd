"""Each call of the API as a method; problem documents become errors again."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from fleet_cloud.client.views import (
    ChangeView,
    DevicePage,
    DeviceView,
    EventView,
    HealthView,
    LabelRequest,
    Problem,
    RolloutRequest,
    RolloutView,
    SeriesView,
    StatusView,
    TokenRequest,
    TokenView,
    TotalsView,
    VersionView,
)
from fleet_cloud.errors import CloudError, Conflict, Forbidden, Invalid, NotFound, Unavailable
from fleet_shared.names import Digest

TIMEOUT_S: Final = 60.0
PAGE: Final = 200

T = TypeVar("T")

_ERRORS: Final[Mapping[int, type[CloudError]]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    422: Invalid,
    503: Unavailable,
}


class Client:
    """Raises `CloudError` subclasses with the controller's own code and hint."""

    def __init__(self, server: str, token: str | None = None) -> None:
        self._server = server
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(base_url=f"{server}/api/v1", headers=headers, timeout=TIMEOUT_S)
        except (httpx.InvalidURL, ValueError) as exc:
            raise self._no_address(exc) from exc

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

    def create_token(self, labels: Mapping[str, str], life_s: int) -> str:
        request = TokenRequest(labels=dict(labels), life_s=life_s)
        return self._send("POST", "/enrolment-tokens", request, TokenView).token

    def devices(self, selector: str = "all") -> Iterator[DeviceView]:
        after: str | None = None
        while True:
            page = self._get("/devices", DevicePage, selector=selector, after=after, limit=PAGE)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def device(self, device: str) -> DeviceView:
        return self._get(f"/devices/{device}", DeviceView)

    def label(self, device: str, added: Mapping[str, str], removed: Sequence[str]) -> DeviceView:
        request = LabelRequest(set=dict(added), remove=list(removed))
        return self._send("PATCH", f"/devices/{device}/labels", request, DeviceView)

    def models(self) -> list[VersionView]:
        """The newest version of each model."""
        return self._get("/models", list[VersionView])

    def versions(self, model: str) -> list[VersionView]:
        return self._get(f"/models/{model}", list[VersionView])

    def version(self, model: str, version: str) -> VersionView:
        return self._get(f"/models/{model}/versions/{version}", VersionView)

    def create_version(self, model: str, draft: object) -> VersionView:
        return self._send("POST", f"/models/{model}/versions", draft, VersionView)

    def put_blob(self, sha256: Digest, content: bytes) -> None:
        """Upload a blob, unless the controller has it."""
        if self._call("HEAD", f"/blobs/{sha256}").status_code == 200:
            return
        self._checked(self._call("PUT", f"/blobs/{sha256}", content=content))

    def create_rollout(
        self, model: str, selector: str, *, variant: str | None, soak_s: float, deadline_s: float
    ) -> RolloutView:
        request = RolloutRequest(
            model=model, selector=selector, variant=variant, soak_s=soak_s, deadline_s=deadline_s
        )
        return self._send("POST", "/rollouts", request, RolloutView)

    def rollout(self, rollout: str) -> RolloutView:
        return self._get(f"/rollouts/{rollout}", RolloutView)

    def rollouts(self) -> list[RolloutView]:
        return self._get("/rollouts", list[RolloutView])

    def history(self, assignment: str) -> list[ChangeView]:
        return self._get(f"/assignments/{assignment}/history", list[ChangeView])

    def series(
        self, device: str, *, metric: str | None, source: str | None, since_ms: int, limit: int
    ) -> list[SeriesView]:
        return self._get(
            f"/devices/{device}/telemetry",
            list[SeriesView],
            metric=metric,
            source=source,
            since_ms=since_ms,
            limit=limit,
        )

    def events(self, device: str, *, since_ms: int = 0, limit: int = 1000) -> list[EventView]:
        return self._get(f"/devices/{device}/events", list[EventView], since_ms=since_ms, limit=limit)

    def totals(self, device: str) -> TotalsView:
        return self._get(f"/devices/{device}/telemetry/totals", TotalsView)

    def _get(self, path: str, kind: type[T], **query: Any) -> T:
        given = {key: value for key, value in query.items() if value is not None}
        return self._read(self._checked(self._call("GET", path, params=given)), kind)

    def _send(self, method: str, path: str, body: object, kind: type[T]) -> T:
        response = self._call(
            method, path, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
        )
        return self._read(self._checked(response), kind)

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except httpx.UnsupportedProtocol as exc:
            raise self._no_address(exc) from exc
        except httpx.HTTPError as exc:
            raise Unavailable(
                f"the controller at {self._server} cannot be reached: {exc}",
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

    def _no_address(self, exc: Exception) -> Invalid:
        return Invalid(
            f"{self._server!r} is not the address of a controller: {exc}",
            hint="for example --server http://127.0.0.1:8470",
            code="controller.address",
        )
