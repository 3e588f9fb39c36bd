"""One update of the model: which steps, in which order, and what survives a crash."""
