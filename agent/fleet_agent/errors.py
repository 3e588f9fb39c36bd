"""Errors of the device.

    FleetError
    └── AgentError
        ├── SettingsError      a setting that is missing or wrong
        ├── EnrolmentError     the controller refused, or is not the one that the token names
        ├── TrustError         a document that is not signed as it must be
        ├── TransferError      a blob that could not be fetched
        │   └── LaterError     ... yet
        ├── SlotError          an installed model that is damaged or has no room
        ├── WorkerError        the inference worker could not load, test or serve a model
        ├── OutboxError        the outbox cannot store a row
        └── InferenceError     an application asked for inference and got no answer (`fleet_agent.client`)

Codes are dotted and stable: ``transfer.digest``, ``disk.full``. ``docs/error-codes.md`` lists them.
"""

from fleet_shared.errors import FleetError


class AgentError(FleetError):
    code = "agent.error"


class SettingsError(AgentError):
    code = "settings.invalid"


class EnrolmentError(AgentError):
    code = "enrol.refused"


class TrustError(AgentError):
    code = "trust.refused"


class TransferError(AgentError):
    code = "transfer.failed"


class LaterError(TransferError):
    """A passing trouble: the same may succeed later."""


class SlotError(AgentError):
    code = "slot.damaged"


class WorkerError(AgentError):
    code = "worker.failed"


class OutboxError(AgentError):
    code = "outbox.failed"


class InferenceError(AgentError):
    """``status``: of the HTTP answer, if there was one."""

    code = "inference.failed"

    def __init__(self, message: str, *, hint: str = "", code: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
