"""Random generators by name, so that what draws from one does not move another's draws."""

from hashlib import sha256

import torch


class Streams:
    """Generators on the CPU, one for each name, all derived from one seed.

    Whether and how often one is drawn from changes nothing for the others: with one augmentation
    switched off the others turn, flip and blur the same images by the same amounts.

    Examples
    --------
    >>> one, other = Streams(7), Streams(7)
    >>> _ = torch.rand(5, generator=one.generator("flip"))
    >>> blurs = [torch.rand(2, generator=streams.generator("blur")) for streams in (one, other)]
    >>> torch.equal(*blurs)
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, torch.Generator] = {}

    def generator(self, name: str) -> torch.Generator:
        """The generator of a name; it goes on where it was left."""
        if name not in self._generators:
            digest = sha256(f"{self.seed}:{name}".encode()).digest()
            # PyTorch's generator on the CPU uses 32 bits of its seed.
            self._generators[name] = torch.Generator().manual_seed(int.from_bytes(digest[:4]))
        return self._generators[name]
