"""What a built file is worth: accuracy, agreement, latency, memory, size, weights. Imports nothing by itself:
`results` is read where no interpreter is installed."""
