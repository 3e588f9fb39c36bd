"""The operator's command line: ``fleet``.

It speaks to the controller over the HTTP API only. ``fleet --help`` imports neither TensorFlow,
SQLAlchemy nor paho: commands import what they need when they run.
"""

from fleet_cloud.entrypoints.cli.run import main

__all__ = ["main"]
