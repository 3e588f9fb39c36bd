"""The composition root of the controller: the only part that sees all others."""
