"""The embedded broker, for a first run and small labs."""
