"""A client of the controller's HTTP API. Imports neither database nor broker."""

from fleet_cloud.client.client import Client
from fleet_cloud.client.views import (
    AssignmentView,
    DeviceView,
    RolloutView,
    VariantView,
    VersionView,
)

__all__ = ["AssignmentView", "Client", "DeviceView", "RolloutView", "VariantView", "VersionView"]
