"""Whether memory holds a second worker, and what that means before a download."""

import msgspec
import pytest

from fleet_agent.errors import TransferError
from fleet_agent.update.room import check_memory, is_tight
from fleet_shared.messages.desired import Policy, WhenTight
from tests.agent.test_plan import started

RECORD = started()
NEEDED = 4096
"""What the contract of the sample says."""
GAP = msgspec.structs.replace(RECORD, policy=Policy(when_tight=WhenTight.GAP))
FIRST = msgspec.structs.replace(RECORD, before=None)


def test_the_contract_says_what_is_needed() -> None:
    from tests.shared.messages.samples import MANIFEST

    assert MANIFEST.contract.memory_bytes == NEEDED


@pytest.mark.parametrize(
    ("available", "tight"), [(NEEDED + 100, False), (NEEDED + 99, True), (0, True), (None, False)]
)
def test_it_is_tight_below_what_is_needed_and_the_margin(available: int | None, tight: bool) -> None:
    assert is_tight(RECORD, available, 100) is tight
    assert not is_tight(FIRST, available, 100), "the first model needs no second worker"


def test_a_model_that_could_not_be_tried_out_is_refused_before_its_download() -> None:
    with pytest.raises(TransferError) as caught:
        check_memory(RECORD, NEEDED, 1)
    assert caught.value.code == "memory.low"
    assert "when_tight=gap" in caught.value.hint
    check_memory(RECORD, NEEDED + 1, 1)
    check_memory(GAP, 0, 1)
    check_memory(FIRST, 0, 1)
