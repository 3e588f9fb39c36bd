"""The controller's connection to the broker."""
