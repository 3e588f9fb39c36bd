"""What the controller stands on, as the settings name it: blobs, certificates, the provider of identities."""

from pathlib import Path
from typing import assert_never

from fleet_cloud.adapters.oidc.issuer import OpenIdIssuer
from fleet_cloud.adapters.storage.bucket import S3Address
from fleet_cloud.adapters.storage.filesystem import FilesystemBlobs
from fleet_cloud.adapters.storage.s3 import S3Blobs
from fleet_cloud.adapters.trust.controller_trust import ControllerTrust
from fleet_cloud.adapters.trust.hosts import find_hosts
from fleet_cloud.adapters.trust.tls_folder import CertificateFolder
from fleet_cloud.addresses import is_s3, parse_advertised_broker, parse_broker, parse_hosts, parse_s3
from fleet_cloud.bootstrap.system import SystemClock
from fleet_cloud.services.ports import BlobStore, Issuer, TlsFiles
from fleet_cloud.settings import Settings, TlsMode


def trust_folder(settings: Settings) -> Path:
    return settings.data_dir / "trust"


def open_certificates(settings: Settings, trust: ControllerTrust) -> CertificateFolder:
    """Return the folder of certificates, brought up to date: brokers and API begin with what is in it."""
    hosts = [*parse_hosts(settings.tls_names, "tls_names"), settings.host]
    hosts.append(parse_broker(settings.broker).host if settings.broker else settings.broker_host)
    if settings.broker_advertise:
        hosts.append(parse_advertised_broker(settings.broker_advertise).host)
    tls = CertificateFolder(trust.authority, settings.data_dir / "tls", find_hosts(hosts))
    tls.renew(SystemClock().now_ms())
    return tls


def find_certificate(settings: Settings, own: TlsFiles) -> TlsFiles | None:
    """Return the certificate that the API shows, as the settings say."""
    match settings.tls_mode:
        case TlsMode.OFF:
            return None
        case TlsMode.GIVEN:
            given = Path(settings.tls_certificate)
            return TlsFiles(authorities=given, certificate=given, key=Path(settings.tls_key))
        case TlsMode.OWN:
            return own
        case other:
            assert_never(other)


def open_issuer(settings: Settings) -> Issuer | None:
    if not settings.oidc_issuer:
        return None
    return OpenIdIssuer(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_role_claim, settings.oidc_name_claim
    )


def open_blobs(settings: Settings) -> BlobStore:
    if not is_s3(settings.blobs):
        return FilesystemBlobs(Path(settings.blobs_place))
    s3 = parse_s3(settings.blobs)
    store = S3Blobs(
        S3Address(
            bucket=s3.bucket,
            prefix=s3.prefix,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key=settings.s3_access_key or None,
            secret_key=settings.s3_secret_key or None,
            advertise=settings.s3_advertise or None,
        )
    )
    store.check()
    return store
