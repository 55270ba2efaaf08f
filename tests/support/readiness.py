"""The readiness of a site that only a test needs."""

from typing import Any

from fedrad.exchange.messages import Readiness


def readiness_with(**given: Any) -> Readiness:
    """A readiness with these fields; all others are those of a site `a` that trains."""
    return Readiness(
        **{
            "site": "a",
            "fedrad": "1.0",
            "flwr": "1.0",
            "torch": "2.0",
            "device": "cpu",
            "threads": 1,
            "base_sha256": "0" * 64,
            "trains": True,
            "units": {},
            "set_aside": 0,
        }
        | given
    )
