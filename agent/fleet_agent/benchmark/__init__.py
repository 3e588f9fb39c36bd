"""Which runtime, on how many threads, computes an installed variant fastest, and still rightly."""
