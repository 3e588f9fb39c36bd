"""The broker: embedded or another, who is let in, and what devices are told of it."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fleet_cloud.adapters.broker.embedded import EmbeddedBroker
from fleet_cloud.adapters.mosquitto.access import DynamicSecurity
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mqtt.gateway import BrokerEndpoint, Gateway
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.addresses import BrokerUrl, clean_host, is_loopback, parse_advertised_broker, parse_broker
from fleet_cloud.bootstrap.mosquitto import open_reload
from fleet_cloud.services.ports import BrokerAccess
from fleet_cloud.settings import Settings
from fleet_shared.messages.enrolment import BrokerAddress
from fleet_shared.names import CONTROLLER_PREFIX
from fleet_shared.topics import Topics

log = logging.getLogger(__name__)

BROKER_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    """The way to the broker. ``access`` lets devices in there, none for a broker whose doors are not
    Fleet's; ``refresh`` brings its files and its rules up to date."""

    endpoint: BrokerEndpoint
    gateway: Gateway
    access: BrokerAccess | None
    refresh: Callable[[], None]


def open_door(settings: Settings, topics: Topics, tls: CertificateFolder, stack: ExitStack) -> Door:
    """Connect to the broker of the settings, or start the embedded one; ``stack`` closes both. Raises
    `SettingsError`, `Unavailable`."""
    endpoint, embedded = _open_broker(settings, topics, tls, stack)
    gateway = Gateway(endpoint, topics, client_id=_client_id(endpoint, tls))
    door = Door(endpoint, gateway, embedded, open_reload(settings, tls))
    if settings.broker_access == "dynsec":  # before the gateway connects: it listens to the answers
        security = DynamicSecurity(Control(gateway), topics, door.refresh)
        door = Door(endpoint, gateway, security, security.refresh)
    gateway.start(BROKER_TIMEOUT_S)
    stack.callback(gateway.close)
    return door


def advertise_broker(settings: Settings, endpoint: BrokerEndpoint) -> BrokerAddress:
    """Return what devices are told: the address and user that ``broker_advertise`` names, else those
    of the controller. Loopback means another machine to each device: it gets no host, and takes
    the one of the controller's URL."""
    tls = endpoint.tls is not None
    url = BrokerUrl(endpoint.host, endpoint.port, tls=tls)
    host: str | None = None if is_loopback(url.host) else url.host
    if settings.broker_advertise:
        url = parse_advertised_broker(settings.broker_advertise, tls=tls)
        host = url.host
    username, password = url.username, url.password
    if username is None and endpoint.username is not None:
        log.warning("devices get the controller's own broker user: name one for them in broker_advertise")
        username, password = endpoint.username, endpoint.password
    return BrokerAddress(
        port=url.port,
        host=host,
        tls=url.tls,
        mqtt5=endpoint.mqtt5,
        username=username,
        password=password,
    )


def describe_broker(settings: Settings, endpoint: BrokerEndpoint) -> str:
    url = BrokerUrl(endpoint.host, endpoint.port, tls=endpoint.tls is not None)
    return str(url) if settings.broker else f"{url} (embedded)"


def _open_broker(
    settings: Settings, topics: Topics, tls: CertificateFolder, stack: ExitStack
) -> tuple[BrokerEndpoint, EmbeddedBroker | None]:
    """Return where the broker is, and the embedded one if it is that."""
    if not settings.broker:
        if is_loopback(settings.broker_host) and not is_loopback(settings.host):
            log.warning("devices elsewhere do not reach the embedded broker: name its address, --broker-host")
        broker = EmbeddedBroker(settings.broker_host, settings.broker_port, topics, tls.server)
        stack.callback(broker.close)
        host = clean_host(settings.broker_host) or broker.loopback
        return BrokerEndpoint(host, broker.port, mqtt5=False, tls=tls.controller), broker
    url = parse_broker(settings.broker)
    if url.tls:
        return BrokerEndpoint(url.host, url.port, url.username, url.password, tls=tls.controller), None
    log.warning("the broker %s is used without TLS: nobody there is known for who he is", url)
    return BrokerEndpoint(url.host, url.port, url.username, url.password), None


def _client_id(endpoint: BrokerEndpoint, tls: CertificateFolder) -> str:
    """Where certificates tell who is who, the broker takes the name in the certificate anyway."""
    return f"{CONTROLLER_PREFIX}{uuid4().hex[:12]}" if endpoint.tls is None else tls.controller_id
