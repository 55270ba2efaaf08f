"""What the gate lets one site, and all together, use of the coordinator's memory and time."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedrad.flower.signatures import AHEAD_SECONDS, FRESH_SECONDS

MOST_HEADERS = 40
LARGEST_HEADERS = 16 * 2**10
"""Number of a request's headers, and their size in bytes. A node sends 12, of less than 2 KiB."""
BODIES_OF_ONE = 24 * 2**20
BODIES_OF_ALL = 128 * 2**20
"""Bytes of request bodies that are held at a time: for one site (a node sends two objects of 5 MiB
at a time), and for all."""
WAIT_SECONDS = 15.0
"""How long a request waits for room, before its node is told to try again."""
PAUSE_SECONDS = 15.0
SLOWEST = 1024
"""A body must bring SLOWEST bytes/s over each PAUSE_SECONDS. A line of 256 kbit/s brings 16,000 for
each of two bodies."""
NONCES_OF_ONE = 20_000
"""Requests of one site within the time for which a signature is accepted (five minutes). A node
sends three a second, and some hundred for an update."""


class NoRoomError(Exception):
    """There is no room for a body now; the node can try again."""


class TooManyError(Exception):
    """A site sends more requests than any node does."""


class Bodies:
    """Room for the bodies of requests."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def room(self, key: str, size: int) -> AsyncIterator[None]:
        """Hold room for a body; wait for it if there is none. Raises NoRoomError."""
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._freed:
                await self._freed.wait_for(lambda: self._fits(key, size))
                self._of[key] += size
        except TimeoutError:
            raise NoRoomError from None
        try:
            yield
        finally:
            self._of[key] -= size
            if not self._of[key]:
                del self._of[key]
            async with self._freed:
                self._freed.notify_all()

    def _fits(self, key: str, size: int) -> bool:
        return self._of[key] + size <= BODIES_OF_ONE and self._of.total() + size <= BODIES_OF_ALL


class Nonces:
    """The nonces of verified requests, for as long as their signatures are accepted."""

    def __init__(self) -> None:
        self._of: dict[str, OrderedDict[str, float]] = {}

    def is_new(self, key: str, nonce: str) -> bool:
        """Whether a nonce is used for the first time with a key; it is remembered. Raises
        TooManyError."""
        now = time.monotonic()
        seen = self._of.setdefault(key, OrderedDict())
        while seen and next(iter(seen.values())) < now:
            seen.popitem(last=False)
        if nonce in seen:
            return False
        if len(seen) >= NONCES_OF_ONE:
            raise TooManyError
        seen[nonce] = now + FRESH_SECONDS + AHEAD_SECONDS
        return True

    def keep(self, keys: set[str]) -> None:
        """Forget all keys but these."""
        for key in self._of.keys() - keys:
            del self._of[key]
