"""The cloud side: controller, factory, operator commands."""

__version__ = "0.1.0"
