"""A symbol as a row of yes and no: is it the centre, how many bits has its distance, which side, which bits.

Pruned weights end after one answer. What is asked depends on the alphabet alone, so both sides build the
same tree. (The order of questions follows the significance and greater-than flags of CABAC, as Wiedemann
et al., DeepCABAC, 2020, use it for weights.)
"""

from dataclasses import dataclass, field

from fleet_shared.codec.codebook.alphabet import Alphabet

MAGNITUDE, SIDE, PLAIN = 0, 1, 2
"""What a question is about; the first two are answered differently in different neighbourhoods."""


@dataclass
class Tree:
    """``no`` and ``yes``: the node that follows by the number of a node, or ``~place`` of an entry."""

    no: list[int] = field(default_factory=list)
    yes: list[int] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    root: int = 0

    def paths(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """Return by the place of each entry the nodes and answers that lead to it."""
        found: dict[int, tuple[tuple[int, int], ...]] = {}
        waiting: list[tuple[int, tuple[tuple[int, int], ...]]] = [(self.root, ())]
        while waiting:
            node, path = waiting.pop()
            if node < 0:
                found[~node] = path
            else:
                waiting += [(self.no[node], (*path, (node, 0))), (self.yes[node], (*path, (node, 1)))]
        return found


def build_tree(alphabet: Alphabet) -> Tree:
    builder = _Builder(alphabet)
    builder.tree.root = builder.whole()
    return builder.tree


class _Builder:
    def __init__(self, alphabet: Alphabet) -> None:
        self.tree = Tree()
        self._centre = alphabet.centre
        self._above, self._below = alphabet.highest, -alphabet.lowest
        self._most = max(self._above, self._below)

    def whole(self) -> int:
        if not self._most:
            return ~self._centre
        node = self._node(MAGNITUDE)
        return self._join(node, ~self._centre, self._of_bits(1))

    def _of_bits(self, bits: int) -> int:
        """The distances of ``bits`` bits and more."""
        if self._most < 1 << bits:
            return self._sides(bits)
        node = self._node(MAGNITUDE)
        return self._join(node, self._sides(bits), self._of_bits(bits + 1))

    def _sides(self, bits: int) -> int:
        first, last = 1 << (bits - 1), (1 << bits) - 1
        above = self._above >= first
        below = self._below >= first
        if above and below:
            node = self._node(SIDE)
            return self._join(node, self._among(first, last, 1), self._among(first, last, -1))
        return self._among(first, last, 1 if above else -1)

    def _among(self, first: int, last: int, side: int) -> int:
        if first == last:
            return ~(self._centre + side * first)
        middle = (first + last + 1) // 2
        if middle > (self._above if side > 0 else self._below):
            return self._among(first, middle - 1, side)
        node = self._node(PLAIN)
        return self._join(node, self._among(first, middle - 1, side), self._among(middle, last, side))

    def _node(self, kind: int) -> int:
        self.tree.no.append(0)
        self.tree.yes.append(0)
        self.tree.kinds.append(kind)
        return len(self.tree.kinds) - 1

    def _join(self, node: int, no: int, yes: int) -> int:
        self.tree.no[node], self.tree.yes[node] = no, yes
        return node
