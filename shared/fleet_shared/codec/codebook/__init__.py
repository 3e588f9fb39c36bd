"""The encoding ``codebook``: values that take few values become numbers of entries, entropy-coded.

Made for models whose weights are clustered, rounded to powers, pruned or of eight bits. Stretches of such
values go through a coder of their own, everything else through LZMA2. The decoder is pure Python.

    file   magic  size  group ...
    group  size  head's size  unpacked size  packed size  packed  code ...
           packed: the head and the rest, what is in no piece; a code for each piece
    head   count of pieces, then for each: model?  gap  row  values  code's size
    model  kind  alphabet  shares?

Numbers have seven bits a byte, low ones first. A group is at most 1 MiB long, a piece 65,536 values, so
that a device holds little and can give up in between. ``gap``: bytes of the rest before a piece. A model
that goes on through several pieces keeps what it learned. ADR 0021 says why this form.
"""

from fleet_shared.codec.codebook.reading import decode
from fleet_shared.codec.codebook.writing import encode

__all__ = ["decode", "encode"]
