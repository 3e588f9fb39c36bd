"""The real agent that stores a burst of telemetry rows where it would store one.

``python -m tests.kit.chatty_agent ROWS run ...``: every reading of the machine becomes so many rows, in one
transaction; otherwise 100,000 of them would take hours.
"""

import sys

from fleet_agent.entry import main
from fleet_agent.journal import Journal
from fleet_agent.rows import host_row


def burst(rows: int) -> None:
    def store(self: Journal, values: dict[str, float]) -> None:
        self.outbox.append(*(host_row(self.clock.now(), values) for _ in range(rows)))

    Journal.host = store  # type: ignore[method-assign]


if __name__ == "__main__":
    burst(int(sys.argv.pop(1)))
    main()
