"""Independent random streams by name: draws from one do not change those of another."""

from hashlib import sha256

import torch


class Streams:
    """Generators on the CPU, one for each name, all derived from one seed.

    The number of draws from one generator does not change the draws of the others. If one
    augmentation is switched off, the others rotate, flip and blur the same images as before.

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
        """The generator of a name; it continues after its last draw."""
        if name not in self._generators:
            digest = sha256(f"{self.seed}:{name}".encode()).digest()
            # PyTorch's generator on the CPU uses 32 bits of its seed.
            self._generators[name] = torch.Generator().manual_seed(int.from_bytes(digest[:4]))
        return self._generators[name]
