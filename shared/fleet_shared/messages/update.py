"""The states of an update, as the device names them and the cloud reads them."""

from fleet_shared.wire import OpenEnum


class UpdateState(OpenEnum):
    IDLE = "idle"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    SELF_TESTING = "self-testing"
    SWITCHING = "switching"
    SOAKING = "soaking"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({UpdateState.SUCCEEDED, UpdateState.FAILED, UpdateState.ROLLED_BACK})
