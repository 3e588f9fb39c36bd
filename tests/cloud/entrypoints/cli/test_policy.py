"""``--policy NAME=VALUE`` of ``fleet push``."""

import pytest
import typer

from fleet_cloud.domain.policy import find_problem
from fleet_cloud.entrypoints.cli.policy import read_policy
from fleet_shared.messages.desired import OverBudget, Policy, WhenTight


def test_settings_become_the_policy() -> None:
    given = [
        "latency_ratio_max=2.5",
        "bytes_max=1000",
        "over_bytes=wait",
        "when_tight=gap",
        "benchmark=true",
    ]
    assert read_policy(1, 60, given) == Policy(
        soak_s=1,
        deadline_s=60,
        latency_ratio_max=2.5,
        bytes_max=1000,
        over_bytes=OverBudget.WAIT,
        when_tight=WhenTight.GAP,
        benchmark=True,
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("latency_ratio=2", "did you mean latency_ratio_max?"),
        ("bytes_max", "write bytes_max=VALUE"),
        ("bytes_max=much", "bytes_max=much: it is a whole number, or null for no bound"),
        ("bytes_max=1.5", "a whole number"),
        ("benchmark=maybe", "true or false"),
        ("error_rate_max=few", "it is a number"),
        ("latency_ratio_max=nan", "a number"),  # JSON would carry it as null: no bound at all
        ("latency_ratio_max=inf", "a number"),
        ("error_rate_max=-inf", "a number"),
        ("over_bytes=panic", "one of fail, wait"),
        ("soak_s=3", "no part of the policy"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected(setting: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        read_policy(1, 60, [setting])
    assert said in str(caught.value)


def test_a_bound_can_be_taken_away() -> None:
    assert read_policy(1, 60, ["latency_ratio_max=null", "bytes_max=null"]) == Policy(soak_s=1, deadline_s=60)


@pytest.mark.parametrize(
    "policy",
    [
        Policy(error_rate_max=1.5),
        Policy(error_rate_max=float("nan")),
        Policy(latency_ratio_max=0),
        Policy(soak_inferences=-1),
        Policy(worker_restarts_max=1000),
        Policy(memory_bytes_max=1),
        Policy(bytes_max=-1),
        Policy(over_bytes=OverBudget.UNKNOWN),
        Policy(when_tight=WhenTight.UNKNOWN),
    ],
)
def test_what_no_later_step_could_work_with_is_a_problem(policy: Policy) -> None:
    problem = find_problem(policy)
    assert problem is not None
    assert problem.hint
    assert find_problem(Policy()) is None
