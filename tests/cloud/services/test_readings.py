"""Series as an operator asks for them."""

from fleet_cloud.services.telemetry import Readings
from fleet_shared.messages.telemetry import Sample, Source
from tests.kit.parts import PI, Parts, batch


def sample(seq: int, source: Source, name: str, wall_ms: int | None = None) -> Sample:
    return Sample(seq=seq, boot_id="b", boot_ms=1, wall_ms=wall_ms, source=source, values={name: float(seq)})


def test_the_newest_readings_of_a_metric_are_all_there_however_many_others_there_are(parts: Parts) -> None:
    parts.add_device()
    rows = [
        sample(n, Source.MODEL if n % 10 == 0 else Source.HOST, "m" if n % 10 == 0 else "h")
        for n in range(1, 101)
    ]
    parts.observe.telemetry(PI, batch(*rows))
    (series,) = Readings(parts.uow).series(PI, "m", None, 0, 5)
    assert [point.value for point in series.points] == [60.0, 70.0, 80.0, 90.0, 100.0]
    both = Readings(parts.uow).series(PI, None, None, 0, 5)
    assert [(s.source, s.metric, len(s.points)) for s in both] == [("host", "h", 5), ("model", "m", 5)]


def test_a_point_has_the_devices_time_if_it_knew_it_and_that_of_receipt_otherwise(parts: Parts) -> None:
    parts.add_device()
    parts.clock.at_ms = 77_000
    parts.observe.telemetry(PI, batch(sample(1, Source.HOST, "h", 5_000), sample(2, Source.HOST, "h")))
    (series,) = Readings(parts.uow).series(PI, None, "host", 0, 10)
    assert [point.at_ms for point in series.points] == [5_000, 77_000]
