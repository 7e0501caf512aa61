"""Merkle trees of RFC 6962, section 2.1: one hash over many leaves, and short proofs that a leaf is among them.

Leaves are bytes; here they are the hashes of the chain's links, 32 bytes each. SHA-256 throughout. No Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

LEAF, NODE = b"\x00", b"\x01"
"""Leaves and nodes hash differently, so that no node can be shown as a leaf (RFC 6962, 2.1)."""


def root(leaves: Iterable[bytes]) -> bytes:
    """The Merkle tree hash of the leaves, 32 bytes; of none, the SHA-256 of nothing."""
    tree = Growing()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


class Growing:
    """A tree that leaves are added to; it keeps one hash for each complete subtree, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """One more leaf: like a carry in binary addition, complete subtrees of one size become one of the next."""
        node = sha256(LEAF + leaf).digest()
        size = self.size
        while size & 1:
            node = sha256(NODE + self._complete.pop() + node).digest()
            size >>= 1
        self._complete.append(node)
        self.size += 1

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self._complete:
            return sha256().digest()
        node = self._complete[-1]
        for left in reversed(self._complete[:-1]):
            node = _node(left, node)
        return node


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf ``index`` (from 0), nearest sibling first (RFC 6962, 2.1.1). Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"There is no leaf {index} among {len(leaves)}.")
    level, path = [sha256(LEAF + leaf).digest() for leaf in leaves], []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        level = _next_level(level)
        index //= 2
    return path


def verify(leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``path`` proves that ``leaf`` is at ``index`` of the tree of ``size`` leaves with this root.

    RFC 9162, section 2.1.3.2, the same proof as RFC 6962.
    """
    if not 0 <= index < size:
        return False
    position, last = index, size - 1
    node = sha256(LEAF + leaf).digest()
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = _node(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = _node(node, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and node == root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(NODE + left + right).digest()


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    """Pairs become their node; one left over goes up as it is."""
    nodes = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*nodes, level[-1]] if len(level) % 2 else nodes
