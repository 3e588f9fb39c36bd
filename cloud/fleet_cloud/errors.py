"""Errors of the cloud.

    FleetError
    └── CloudError
        ├── SettingsError       a setting that is missing or wrong
        ├── NotFound            no such device, model, version, rollout, blob
        ├── Conflict            it exists already, and is not the same
        ├── Invalid             an input that cannot be accepted
        │   ├── InvalidSelector
        │   └── RecipeError     a recipe with an unknown key, a wrong value, a missing file
        ├── Forbidden           a token or signature that does not allow it
        ├── TooMany             more requests than one may send
        ├── Unavailable         broker, database or blob store is away
        └── BuildError          training, conversion or evaluation failed

Codes are dotted and stable. ``docs/error-codes.md`` lists them. The entry points choose the HTTP
status and the exit code, from one table each.
"""

from fleet_shared.errors import FleetError


class CloudError(FleetError):
    code = "cloud.error"


class SettingsError(CloudError):
    code = "settings.invalid"


class NotFound(CloudError):
    code = "not_found"


class Conflict(CloudError):
    code = "conflict"


class Invalid(CloudError):
    code = "invalid"


class InvalidSelector(Invalid):
    code = "selector.invalid"


class RecipeError(Invalid):
    code = "recipe.invalid"


class Forbidden(CloudError):
    code = "forbidden"


class TooMany(CloudError):
    """``wait_s``: when to try again."""

    code = "request.rate"
    wait_s: float = 1.0


class Unavailable(CloudError):
    code = "unavailable"


class BuildError(CloudError):
    code = "build.failed"
