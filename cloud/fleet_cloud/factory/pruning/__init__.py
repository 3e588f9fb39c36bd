"""Pruning: single weights set to zero; filters and neurons really removed, with all that hangs on them."""
