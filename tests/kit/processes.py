"""The end of a process that a test started: asked first, killed when it does not hear."""

import signal
import subprocess

END_TIMEOUT_S = 30.0


def end_process(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal and return the exit code; one that does not end is killed (-9)."""
    process.send_signal(number)
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        if process.stdout is not None:
            process.stdout.close()
