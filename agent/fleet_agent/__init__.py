"""The device side: one supervisor, one inference worker, and a child process for trust."""

__version__ = "0.1.0"
