"""What supervisor and worker say to each other, one JSON document a line, over a socket pair.

The worker is ``python -m fleet_agent.worker --control FD --vitals FD``. What it is doing it writes into
the shared memory behind ``--vitals`` (`blackbox`). The first line it reads is its `WorkerSpec`. It loads
the model, warms up, runs the golden vectors, then says `Ready` or `Failed` and waits. After `Serve` it
accepts connections on the listening sockets it was handed; after `Drain` it accepts no more, answers what
has begun, hands its connections over to the next worker, and says `Drained` and exits once all are gone or
the linger is over. When the control socket closes it exits: a worker never outlives its supervisor.
This module is all that the supervisor side may import of this package.
"""

import msgspec

from fleet_shared.messages.reported import Failure
from fleet_shared.names import AssignmentId, Digest


class SourceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Samples that are replayed for inference: a folder or archive of images
    (``CLASS/name.png``), an ``.npz`` with ``x`` and, if known, ``y``, or ``camera:0``."""

    path: str
    rate_hz: float
    loop: bool = True


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A worker on trial reports each ``interval_s`` until it has served for ``lasts_s`` and reported
    ``inferences``."""

    interval_s: float
    lasts_s: float
    inferences: int = 0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker does to itself at its start. ``nice``: so much is added; ``cpus``: it runs on so many
    (0: on all); ``oom_score_adj``: the kernel that runs out of memory takes it before the agent."""

    nice: int = 0
    cpus: int = 0
    oom_score_adj: int = 500


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """``listen_fds``: inherited listening sockets (TCP on loopback, Unix) and the pair over which
    connections go to the next worker, owned by the supervisor. ``runtime``: name of the runtime
    module, e.g. ``litert``. ``compiled``: folder for what it compiles; empty: nothing is kept."""

    slot: str
    manifest: Digest
    assignment: AssignmentId
    runtime: str
    threads: int
    listen_fds: tuple[int, ...]
    stats_interval_s: float
    linger_s: float
    source: SourceSpec | None = None
    trial: Trial | None = None
    limits: Limits = Limits()
    compiled: str = ""


class Serve(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Accept connections and start the source."""


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Stop accepting, finish, exit. ``linger_s``: in place of that of the spec."""

    linger_s: float | None = None


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """How the golden vectors came out. Differences in the output's real unit."""

    samples: int
    max_difference: float
    tolerance: float
    class_flips: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    runtime: str
    runtime_version: str
    load_ms: float
    warmup_us: float
    self_test: SelfTest


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker gives up and exits. ``self_test`` is there if it was the reason."""

    failure: Failure
    self_test: SelfTest | None = None


class Serving(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Drained(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Stats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One window of inference; sent every ``stats_interval_s``, also when idle, and once more at a
    drain. ``labelled`` samples had a label, ``correct`` of them were right."""

    window_ms: int
    requests: int
    errors: int
    latency_p50_us: float | None
    latency_p90_us: float | None
    latency_p99_us: float | None
    labelled: int
    correct: int
    classes: dict[str, int]
    rss_bytes: int


class SourceFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is wrong with the source of samples; the model serves on, and is not to blame."""

    failure: Failure


ToWorker = Serve | Drain
FromWorker = Ready | Failed | Serving | Drained | Stats | SourceFailed


class MeasureSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What ``python -m fleet_agent.worker.measure`` reads from its standard input; it answers with one
    line, `Measured` or `Failed`. ``warmups`` are not timed. ``limits``: those of the worker to come."""

    slot: str
    manifest: Digest
    runtime: str
    threads: int
    runs: int
    warmups: int
    compiled: str = ""
    limits: Limits = Limits()


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One runtime at one number of threads. ``peak_bytes``: the most resident memory of its process;
    ``growth_bytes``: how much more it was after the timed runs than before them."""

    runtime_version: str
    runs: int
    load_ms: float
    p50_us: float
    p99_us: float
    peak_bytes: int
    growth_bytes: int
    self_test: SelfTest
