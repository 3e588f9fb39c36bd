"""Blobs on their way to the device: over HTTP(S), resumed after a cut, checked by digest."""
