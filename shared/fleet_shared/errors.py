"""The root of every error that Fleet raises on purpose.

    FleetError                  stable code, message, hint
    ├── InvalidName             a device id, model name, version, label or digest
    ├── InvalidTopic            a topic that is not one of Fleet's
    ├── MessageError            a document that is too large, malformed or of another schema
    ├── TokenError              an enrolment token that is not one
    ├── CodecError              encoded bytes that do not decode to what was promised
    ├── (agent)  fleet_agent.errors.AgentError
    └── (cloud)  fleet_cloud.errors.CloudError

A caller's bug stays a ``ValueError``. HTTP status and exit code are chosen in the entry points.
"""


class FleetError(Exception):
    """Something went wrong that an operator can understand and act on.

    ``code`` is stable and documented; ``message`` names the input and what was expected;
    ``hint`` says what to do next.
    """

    code = "fleet.error"

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code

    def __str__(self) -> str:
        return self.message


class InvalidName(FleetError):
    code = "name.invalid"


class InvalidTopic(FleetError):
    code = "topic.invalid"


class MessageError(FleetError):
    code = "message.invalid"


class TokenError(FleetError):
    code = "enrol.token.invalid"


class CodecError(FleetError):
    code = "codec.invalid"
