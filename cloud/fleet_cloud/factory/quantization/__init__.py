"""Fewer bits for each number: linear, affine (TFLite), logarithmic, codebooks."""
