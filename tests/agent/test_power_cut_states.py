"""The power is cut at every instant of an update, and the disk has kept as little as it may.

Everything that an update writes is recorded; from the recording every state is rebuilt that a cut may
leave (`tests.kit.power_cut` says which those are); a device boots on each, lives on, and everything must
hold that `tests.kit.cut_update` looks at. Then each single fsync is left out of the recording: a state
must appear that breaks something. So no fsync is missing, and none is there for nothing but those that
are named here with their reason.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_shared.durable import DiskOperation
from fleet_shared.messages.update import UpdateState as S
from tests.kit.blob_store import BlobStore, blob_store
from tests.kit.cut_update import Cut, Model, Recorded, cuts_of, record_update, survive

SAMPLED = 5
"""The short run takes every so many-th state."""

COVERED = {
    "the record that says that the outcome is stored": "the outbox knows it, and stores no outcome twice",
    "the record of a return that is done": "the outbox and the pointers say so; a start settles it",
}
"""Syncs of a folder whose loss alone breaks nothing, and what covers it. They stay: the record is saved
in one way, whatever it says."""


@pytest.fixture(scope="module")
def store() -> Iterator[BlobStore]:
    with blob_store() as one:
        yield one


@pytest.fixture(scope="module")
def record(store: BlobStore, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Recorded]:
    """Each update is recorded once."""
    made: dict[Model, Recorded] = {}

    def get(model: Model) -> Recorded:
        if model not in made:
            made[model] = record_update(tmp_path_factory.mktemp("recorded") / "device", store, model)
        return made[model]

    return get


Record = Callable[[Model], Recorded]


def survive_all(cuts: list[Cut], folder: Path, store: BlobStore, model: Model) -> None:
    for number, cut in enumerate(cuts):
        try:
            survive(cut, folder / str(number), store, model)
        except AssertionError as exc:
            raise AssertionError(f"{cut}: {exc}") from exc


@pytest.mark.parametrize("model", Model)
def test_a_cut_at_many_moments(record: Record, store: BlobStore, tmp_path: Path, model: Model) -> None:
    cuts = [*{cut.key: cut for cut in cuts_of(record(model))}.values()]
    assert len(cuts) > 150
    survive_all(cuts[::SAMPLED], tmp_path, store, model)


@pytest.mark.long
@pytest.mark.parametrize("then", Model, ids=lambda model: f"then-{model.name}")
@pytest.mark.parametrize("model", Model, ids=lambda model: model.name)
def test_a_cut_at_every_moment_with_every_remainder(
    record: Record, store: BlobStore, tmp_path: Path, model: Model, then: Model
) -> None:
    """``then``: the model may behave otherwise after the cut than it would have before."""
    cuts = [*{cut.key: cut for cut in cuts_of(record(model))}.values()]
    print(f"{model.value}, after the cut {then.value}: {len(cuts)} states")
    survive_all(cuts, tmp_path, store, then)


def test_every_sync_of_a_good_update_is_needed(record: Record, store: BlobStore, tmp_path: Path) -> None:
    check_every_sync(record(Model.GOOD), store, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("model", [Model.FAILS_SELF_TEST, Model.FAILS_SOAK], ids=lambda model: model.name)
def test_every_sync_of_a_bad_update_is_needed(
    record: Record, store: BlobStore, tmp_path: Path, model: Model
) -> None:
    check_every_sync(record(model), store, tmp_path)


def check_every_sync(recorded: Recorded, store: BlobStore, folder: Path) -> None:
    legal = {cut.key for cut in cuts_of(recorded)}
    covered = find_covered(recorded)
    rows: list[tuple[int, str, str]] = []
    for index, operation in enumerate(recorded.operations):
        if operation.is_sync:
            new = {cut.key: cut for cut in cuts_of(recorded, without=index) if cut.key not in legal}
            late_first = [*new.values()][::-1]  # what was never synced hurts at the end at the latest
            assert new, f"without {operation} ({index}) the disk is no other"
            broken = find_broken(late_first, folder / str(index), store, recorded.model)
            rows.append((index, str(operation), broken or f"nothing: {COVERED.get(covered.get(index, ''))}"))
    for row in rows:
        print("{:4} {:60.60} {:.100}".format(*row))
    needless = {index for index, _, broken in rows if broken.startswith("nothing")}
    assert needless == set(covered), f"syncs that protect nothing: {needless - set(covered)}"


def find_broken(cuts: list[Cut], folder: Path, store: BlobStore, model: Model) -> str | None:
    """Return what the first state says that does not survive; whatever the model does afterwards."""
    folder.mkdir()
    for then in dict.fromkeys((model, Model.FAILS_SELF_TEST, Model.FAILS_SOAK)):
        for number, cut in enumerate(cuts):
            try:
                survive(cut, folder / f"{then.name}-{number}", store, then)
            except AssertionError as exc:
                return f"{cut}: {exc}".replace("\n", " ")
    return None


def find_covered(recorded: Recorded) -> dict[int, str]:
    """Which syncs are those of `COVERED`, by what the record says that they are for."""
    saved = [
        index
        for index, operation in enumerate(recorded.operations)
        if operation.kind is DiskOperation.SYNC_FOLDER
        and recorded.operations[index - 1].target == "update.json"
    ]
    found = {saved[-1]: "the record that says that the outcome is stored"}
    if recorded.model is Model.FAILS_SOAK:
        found[saved[-2]] = "the record of a return that is done"
        written = recorded.operations[saved[-2] - 3].content
        assert f'"{S.ROLLED_BACK.value}"'.encode() in written
    return found
