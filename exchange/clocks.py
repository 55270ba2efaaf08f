"""Words for two clocks that differ: that of a site's node and that of the coordinator.

Neither side knows which of the two is wrong, so neither text says it.
"""

DIFFERENCE_HEADER = "fedrad-clock"
"""Header of an answer to a node whose clock differs too much: the difference in seconds, positive
if the node's clock is ahead."""
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def difference(seconds: float) -> str:
    """A difference in its two largest units and its direction, such as "3 h 2 min behind"."""
    left = round(abs(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return f"{' '.join(parts) or '0 s'} {'ahead of' if seconds > 0 else 'behind'}"


def for_the_site(seconds: float) -> str:
    """The sentence for the site's engineer. `seconds`: how much the site's clock is ahead."""
    return (
        f"this machine's clock is {difference(seconds)} the coordinator's. One of the two is "
        "wrong: set this one (NTP: `timedatectl set-ntp true`); if it is right, tell the "
        "coordinator"
    )


def for_the_coordinator(site: str, seconds: float) -> str:
    """The sentence for the coordinator. `seconds`: how much the site's clock is ahead."""
    return (
        f"{site}: its clock is {difference(seconds)} this machine's, and its requests are refused. "
        "One of the two is wrong: look at this one first (NTP: `timedatectl`)"
    )
