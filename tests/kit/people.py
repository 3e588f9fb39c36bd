"""The token with which tests speak to a controller, as an admin would."""

from typing import Final

from fleet_cloud.domain.people import Actor, Role

KIT_TOKEN: Final = "kit-admin-token"
BEARER: Final = {"Authorization": f"Bearer {KIT_TOKEN}"}
ADMIN: Final = Actor("ann", Role.ADMIN, "10.0.0.1")
