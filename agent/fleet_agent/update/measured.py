"""What a benchmark within an update changes about it. Pure."""

import msgspec

from fleet_agent.update.record import UpdateRecord


def take_fastest(record: UpdateRecord) -> UpdateRecord:
    """Return the record with the runtime and the threads that its evidence names as the fastest; as it
    is where nothing was measured. Safe to call twice."""
    runtime, threads = (record.evidence.get(f"benchmark_{name}") for name in ("runtime", "threads"))
    if not isinstance(runtime, str) or not isinstance(threads, int):
        return record
    target = msgspec.structs.replace(record.target, runtime=runtime, threads=threads)
    return msgspec.structs.replace(record, target=target)
