"""``fleet push``: what is refused before a training, and what is said when the watching ends."""

import signal
from pathlib import Path

import pytest

from fleet_cloud.client import AssignmentView, RolloutView
from fleet_cloud.domain.rollout import AssignmentState
from fleet_cloud.entrypoints.cli.push_display import Speeds, follow_rollout, make_table
from fleet_shared.messages.reported import Failure
from tests.kit.background import start_fleet
from tests.kit.commands import run_fleet
from tests.kit.packages import make_package, register
from tests.kit.world import World

RECIPE = "docs/examples/digits.yaml"


@pytest.mark.system
@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("--to", "site in"), "selector.invalid", "site in"),
        (("--to", "site=nowhere"), "rollout.empty", "site=nowhere"),
        (("--to", "all", "--variant", "int4"), "model.variant.unknown", "fp32, int8"),
    ],
)
def test_what_would_refuse_the_push_is_found_before_the_training(
    server: str, words: tuple[str, ...], code: str, named: str
) -> None:
    done = run_fleet(server, "push", RECIPE, *words)
    assert done.returncode == 1
    assert f"error[{code}]" in done.stderr
    assert named in done.stderr
    assert "starting" not in done.stderr


@pytest.mark.parametrize("option", ["--soak", "--deadline"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e12", "-1"])
def test_times_out_of_reason_are_wrong_usage(option: str, value: str) -> None:
    done = run_fleet("http://127.0.0.1:1", "push", RECIPE, "--to", "all", option, value)
    assert done.returncode == 2
    assert option in done.stderr


@pytest.mark.system
def test_ctrl_c_says_that_the_rollout_goes_on(shared_world: World) -> None:
    with shared_world.client() as client:
        register(client, "tiny", make_package())
        process = start_fleet(shared_world.controller.url, "push", "tiny", "--to", "all")
        assert process.stderr is not None
        assert process.stderr.readline().startswith("rollout ")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        rollout = client.rollouts()[0]
        assert process.communicate()[1].endswith(f"the rollout goes on: fleet rollout show {rollout.id}\n")
        assert client.rollout(rollout.id).state == "running"


def assignment(state: str, failure: Failure | None = None) -> AssignmentView:
    return AssignmentView(
        id="a1", device="pi-1", state=state, variant="int8", bytes_done=0, bytes_total=0,
        created_ms=10_000, updated_ms=12_000, failure=failure, is_open=AssignmentState(state).is_open,
    )  # fmt: skip


def view(state: str, *assignments: AssignmentView) -> RolloutView:
    return RolloutView(
        id="r1", model="m", version="1.0.0", selector="all", state=state, created_ms=9_000,
        devices=["pi-1"], assignments=list(assignments),
    )  # fmt: skip


def cells(shown: RolloutView, now_ms: int = 20_000) -> list[str]:
    table = make_table(shown, Speeds(), now_ms=now_ms, now_s=0)
    return [str(next(iter(column.cells))) for column in table.columns]


def test_time_runs_while_an_assignment_is_open_and_stands_once_it_is_closed() -> None:
    assert cells(view("running", assignment("downloading")))[5] == "10.0 s"
    assert cells(view("running", assignment("succeeded")))[5] == "2.0 s"
    assert cells(view("running"))[5] == "11.0 s", "a device that waits to be assigned"
    assert cells(view("running"), now_ms=0)[5] == "0.0 s", "a clock that lags behind"


WAITS = Failure(code="transfer.unreachable", message="no route [to] host")


def test_why_a_device_waits_is_shown_while_it_waits() -> None:
    assert "no route" in cells(view("running", assignment("downloading", WAITS)))[6]


def test_plain_lines_tell_a_new_reason_too(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter(
        [
            view("running", assignment("downloading")),
            view("running", assignment("downloading")),
            view("running", assignment("downloading", WAITS)),
            view("succeeded", assignment("succeeded")),
        ]
    )
    assert follow_rollout(lambda: next(looks)).state == "succeeded"
    assert capsys.readouterr().err.splitlines() == [
        "rollout r1: m:1.0.0 to 1 devices",
        "pi-1: downloading (int8)",
        "pi-1: downloading (int8); transfer.unreachable: no route [to] host",
        "pi-1: succeeded (int8)",
    ]


def test_a_recipe_that_is_missing_is_named(tmp_path: Path) -> None:
    done = run_fleet("http://127.0.0.1:1", "push", str(tmp_path / "none.yaml"), "--to", "all")
    assert "error[recipe.missing]" in done.stderr
