"""``python -m tests.kit.babbling_worker --control FD ...``, in place of ``fleet_agent.worker``: it says
what is no text, as a process does whose memory native code has written over."""

import os
import sys
import time


def main() -> None:
    control = int(sys.argv[sys.argv.index("--control") + 1])
    os.write(control, b'{"type":"Failed","failure":{"code":"\xff","message":"","hint":""}}\n')
    time.sleep(60)


if __name__ == "__main__":
    main()
