"""Mosquitto, as far as it is not the embedded broker's business: its files, and its first configuration."""

from collections.abc import Callable
from pathlib import Path

from fleet_cloud.adapters.db.engine import migrate, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.adapters.mosquitto.commands import entry_of
from fleet_cloud.adapters.mosquitto.configuration import Place, write_configuration
from fleet_cloud.adapters.mosquitto.files import BrokerFiles, Reload, files_in
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.bootstrap.data_folder import make_data
from fleet_cloud.bootstrap.edges import open_certificates, trust_folder
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.services.devices import all_devices
from fleet_cloud.settings import Settings
from fleet_shared.topics import Topics


def configure_mosquitto(settings: Settings, folder: Path, state: Path, port: int, address: str) -> list[Path]:
    """Write what a Mosquitto needs for this controller, whether that runs or not: its devices are let in from
    the start. Return the files."""
    place = Place(folder, state, port, address)
    make_data(settings)
    engine = open_engine(settings.database_url)
    try:
        migrate(engine)
        tls = open_certificates(settings, ControllerTrust(trust_folder(settings)))
        topics, now_ms = Topics(settings.topic_root), SystemClock().now_ms()
        with DatabaseUnitOfWork(engine).read() as transaction:
            known = [device for device in all_devices(transaction) if device.revoked_ms is None]
            revoked = transaction.certificates.revoked(now_ms)
        tls.write_revocations(revoked, now_ms)
        entries = [entry_of(topics, device.id, device.public_key_sha256) for device in known]
        return write_configuration(place, topics, tls.controller_id, entries, _broker_files(tls))
    finally:
        engine.dispose()


def open_reload(settings: Settings, tls: CertificateFolder) -> Callable[[], None]:
    if not settings.broker_files:
        return lambda: None
    return Reload(_broker_files(tls), files_in(Path(settings.broker_files)), settings.broker_reload)


def _broker_files(tls: CertificateFolder) -> BrokerFiles:
    return BrokerFiles(tls.authorities, tls.revocations, tls.server.certificate, tls.server.key)
