"""The controller as one process: API, gateway, loops, and the broker if none is named."""

import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn

from fleet_cloud.bootstrap import Controller, build_controller
from fleet_cloud.entrypoints.api.app import Services, create_app
from fleet_cloud.entrypoints.workers.ingest import Ingest
from fleet_cloud.entrypoints.workers.loops import Loop
from fleet_cloud.entrypoints.workers.publish import Publisher
from fleet_cloud.errors import SettingsError
from fleet_cloud.masking import mask_url
from fleet_cloud.settings import Settings

RELEASE_REFRESH_S = 3600.0
PACKING_CHECK_S = 60.0
PRESENCE_CHECK_S = 30.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the controller is to be found, and what it uses; without secrets."""

    api: str
    broker: str
    database: str
    blobs: str


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
        app = create_app(_services(controller, wake))
        config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=5)
        server = _Server(config, partial(ready, _addresses(settings, controller, listener)))
        server.run(sockets=[listener])


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
        if controller.tick.run():
            publisher.wake()
            return 0.0
        return settings.tick_interval_s

    def refresh() -> float:
        controller.trust.refresh(controller.registry.clock.now_ms())
        return RELEASE_REFRESH_S

    def wake() -> None:
        ticker.wake()
        publisher.wake()

    ticker = Loop("tick", tick)

    def give_up_silent() -> float:
        if gateway.connected_ms is not None:
            controller.observe.give_up_silent(gateway.connected_ms)
        return PRESENCE_CHECK_S

    publisher = Loop("publish", Publisher(controller.uow, gateway.publish).turn)
    ingest = Ingest(
        gateway.incoming,
        controller.topics,
        controller.observe,
        controller.blobs,
        answer=lambda topic, payload: _answer(controller, topic, payload),
        changed=wake,
    )
    loops = [
        ticker,
        publisher,
        Loop("ingest", ingest.turn),
        Loop("releases", refresh),
        Loop("presence", give_up_silent),
        Loop("identities", controller.identities.upkeep.turn),
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


def _answer(controller: Controller, topic: str, payload: bytes) -> None:
    """Answers are not retained and not kept: the device asks or sends again."""
    controller.gateway.send(topic, payload, retain=False)


def _services(controller: Controller, wake: Callable[[], None]) -> Services:
    return Services(
        identities=controller.identities,
        inventory=controller.inventory,
        registry=controller.registry,
        blobs=controller.blobs,
        rollouts=controller.rollouts,
        readings=controller.readings,
        overview=controller.overview,
        releases=controller.settings.data_dir / "trust",
        api_token=controller.settings.api_token,
        wake=wake,
        broker=lambda: controller.gateway.status,
    )


def _addresses(settings: Settings, controller: Controller, listener: socket.socket) -> Addresses:
    host, port = listener.getsockname()[:2]
    return Addresses(
        api=f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}",
        broker=controller.broker,
        database=mask_url(settings.database_url),
        blobs=mask_url(settings.blobs_place),
    )
