"""The trust child as a process, without what a device has no use for."""

import sys


def main() -> int:
    # Where it is installed, what signs would load it at once: a third of a child's time, and 10 MiB.
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]  # none: cannot be imported
    from fleet_agent.trust.child import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
