"""The protocol between the cloud and the devices, typed. Imports no client library."""

__version__ = "0.1.0"
