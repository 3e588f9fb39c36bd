"""Blobs from where they are to this disk: ranges and resume, retry budgets, digests."""
