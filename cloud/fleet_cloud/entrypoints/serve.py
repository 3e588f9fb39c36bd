"""The controller as one process: API, gateway, loops, and the broker if none is named."""

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn

from fleet_cloud.addresses import is_loopback
from fleet_cloud.bootstrap.controller import Controller, build_controller
from fleet_cloud.entrypoints.api.access import Access, open_access
from fleet_cloud.entrypoints.api.app import Services, create_app
from fleet_cloud.entrypoints.api.limiting import Limits
from fleet_cloud.entrypoints.connections import guarded, open_door
from fleet_cloud.entrypoints.https import ServedCertificate
from fleet_cloud.entrypoints.workers.fetches import Fetches, FetchQueue
from fleet_cloud.entrypoints.workers.ingest import Ingest
from fleet_cloud.entrypoints.workers.loops import Loop
from fleet_cloud.entrypoints.workers.publish import Publisher
from fleet_cloud.entrypoints.workers.releases import ReleaseWorker
from fleet_cloud.errors import SettingsError
from fleet_cloud.local import write_address
from fleet_cloud.masking import mask_url
from fleet_cloud.settings import Settings, TlsMode, split_list
from fleet_shared.names import digest_of

PACKING_CHECK_S = 60.0
PRESENCE_CHECK_S = 30.0
FETCH_WORKERS = 2
"""One goes on while another waits for a store."""
CERTIFICATE_CHECK_S = 1
BACKLOG = 128
"""So many connections are taken in one turn of the event loop, before those that are too many are closed."""

LOCAL_ADMIN = "admin:local"
GIVEN_ADMIN = "admin:settings"
"""Who acts with the token of the data folder, and of the settings; no other token has a name with a colon."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the controller is to be found, and what it uses; without secrets."""

    api: str
    broker: str
    database: str
    blobs: str
    data: str
    local: str
    """The API's address for commands on this machine."""
    ca_sha256: str | None
    """By which people know the controller at their first `fleet login`, where the certificate is its own."""


def serve(settings: Settings, ready: Callable[[Addresses], None]) -> None:
    """Run until a signal ends it; ``ready`` is called once everything answers."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "httpx", "botocore", "tuf"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with (
        _listen(settings) as listener,
        build_controller(settings) as controller,
        _running_loops(controller) as wake,
    ):
        served = _open_certificate(settings, controller)
        addresses = _addresses(settings, controller, listener)
        _tell_this_machine(settings, controller, addresses)
        config = _configure(settings, _services(controller, wake), served)
        server = _Server(config, partial(ready, addresses))
        server.run(sockets=[listener])


def _configure(settings: Settings, services: Services, served: ServedCertificate | None) -> uvicorn.Config:
    """Without a proxy that is trusted, nobody's word on where a request comes from counts."""
    config = uvicorn.Config(
        create_app(services),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        backlog=BACKLOG,
        timeout_graceful_shutdown=5,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=split_list(settings.trusted_proxies),
        callback_notify=None if served is None else served.reload_if_changed,
        timeout_notify=CERTIFICATE_CHECK_S,
    )
    config.load()
    config.http_protocol_class = guarded(open_door(settings.proxy_networks))
    config.ssl = None if served is None else served.context
    return config


def _open_certificate(settings: Settings, controller: Controller) -> ServedCertificate | None:
    if controller.https is None:
        if not is_loopback(settings.host):
            log.warning("HTTP without TLS beyond this machine: tokens can be read on their way")
        return None
    return ServedCertificate(controller.https.certificate, controller.https.key)


def _tell_this_machine(settings: Settings, controller: Controller, addresses: Addresses) -> None:
    """Leave in the data folder how commands on this machine reach the controller. A given certificate is for
    the names that others use, and its authority may be known to them alone: here it is known as it is."""
    given = settings.tls_mode is TlsMode.GIVEN
    proof = None
    if controller.https is not None:
        proof = controller.https.certificate if given else controller.https.authorities
    write_address(settings.data_dir, addresses.local, proof, exact=given)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A signal ends the server, and that is all: uvicorn would raise it again afterwards, which ends
        the process before the loops, the gateway, the broker and the database are closed."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """Take the port first: nothing is opened when it is in use."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server((address[0], settings.port), family=family, backlog=512)
    except (OSError, UnicodeError) as exc:
        raise _not_listening(settings, exc) from exc
    with listener:
        yield listener


def _not_listening(settings: Settings, exc: OSError | UnicodeError) -> SettingsError:
    problem = f"port {settings.port} on {settings.host!r} cannot be listened on: {exc}"
    if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
        hint = "is another controller running? choose another port: --port"
        return SettingsError(problem, hint=hint, code="port.in_use")
    return SettingsError(
        problem,
        hint="--host is an address of this machine; ports below 1024 need rights",
        code="port.refused",
    )


@contextmanager
def _running_loops(controller: Controller) -> Iterator[Callable[[], None]]:
    """Start the loops; yield what wakes the tick and the publisher."""
    settings, gateway = controller.settings, controller.gateway

    def tick() -> float:
        if controller.tick.run() + controller.resigning.run():
            publisher.wake()
            return 0.0
        return settings.tick_interval_s

    def wake() -> None:
        ticker.wake()
        publisher.wake()

    ticker = Loop("tick", tick)

    def give_up_silent() -> float:
        if gateway.connected_ms is not None:
            controller.observe.give_up_silent(gateway.connected_ms)
        return PRESENCE_CHECK_S

    releases = ReleaseWorker(
        controller.trust,
        controller.registry,
        controller.registry.clock,
        controller.topics.releases,
        gateway.publish,
        connected_ms=lambda: gateway.connected_ms,
        seen=lambda: gateway.announced,
    )
    publisher = Loop(
        "publish", Publisher(controller.uow, gateway.publish, first=releases.announce_first).turn
    )
    loops = [
        ticker,
        publisher,
        *_hearing_loops(controller, wake),
        Loop("releases", releases.turn),
        Loop("presence", give_up_silent),
        Loop("identities", controller.identities.upkeep.look),
        Loop("packing", lambda: 0.0 if controller.packing.pack_next() else PACKING_CHECK_S),
    ]
    for loop in loops:
        loop.start()
    try:
        yield wake
    finally:
        controller.packing.stop()
        for loop in loops:
            loop.stop()


def _hearing_loops(controller: Controller, wake: Callable[[], None]) -> list[Loop]:
    """What hears devices and answers them. Answers are not retained and not kept: the device asks or sends
    again."""
    questions, send = FetchQueue(), partial(controller.gateway.send, retain=False)
    ingest = Ingest(
        controller.gateway.incoming,
        controller.topics,
        controller.observe,
        ask=questions.put,
        answer=send,
        changed=wake,
    )
    fetches = [Fetches(questions, controller.topics, controller.fetching, send) for _ in range(FETCH_WORKERS)]
    return [
        Loop("ingest", ingest.turn),
        *(Loop(f"fetches-{number}", one.turn) for number, one in enumerate(fetches)),
    ]


def _access(controller: Controller) -> Access:
    settings = controller.settings
    return open_access(
        controller.tokens,
        Limits(settings.rate_token_per_s, settings.rate_address_per_s),
        admin_secrets={LOCAL_ADMIN: controller.admin_token, GIVEN_ADMIN: settings.api_token},
        issuer=controller.issuer,
        roles=settings.roles_by_group,
    )


def _services(controller: Controller, wake: Callable[[], None]) -> Services:
    return Services(
        identities=controller.identities,
        inventory=controller.inventory,
        registry=controller.registry,
        blobs=controller.blobs,
        rollouts=controller.rollouts,
        readings=controller.readings,
        overview=controller.overview,
        signing=controller.signing,
        releases=controller.settings.data_dir / "trust",
        tokens=controller.tokens,
        builds=controller.builds,
        audit=controller.audit,
        access=_access(controller),
        wake=wake,
        broker=lambda: controller.gateway.status,
    )


def _addresses(settings: Settings, controller: Controller, listener: socket.socket) -> Addresses:
    host, port = listener.getsockname()[:2]
    scheme = "http" if controller.https is None else "https"
    own = settings.tls_mode is TlsMode.OWN
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  to be told from, not bound
    return Addresses(
        api=_write_url(scheme, host, port),
        broker=controller.broker,
        database=mask_url(settings.database_url),
        blobs=mask_url(settings.blobs_place),
        data=str(settings.data_dir),
        local=_write_url(scheme, near, port),
        ca_sha256=digest_of(controller.identities.enrolling.ca.ca_pem.encode()) if own else None,
    )


def _write_url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
