"""The release of fedrad that an experiment can require, and those that took part in one."""

from typing import Annotated

from pydantic import StringConstraints

from fedrad.system.release import RELEASE_PATTERN, release, same_release

ReleaseName = Annotated[str, StringConstraints(pattern=f"^{RELEASE_PATTERN}$")]
"""Version and hash of the installed code, as `fedrad --version` prints them."""


def release_fault(required: str | None) -> str | None:
    """Why the code that is installed here may not run an experiment; None if it may.

    Parameters
    ----------
    required
        `federation.release` of the experiment.
    """
    if required is None or same_release(required, release()):
        return None
    return (
        f"federation.release = {required!r}, and installed here is {release()}: install the "
        "release that the experiment requires (`--version` shows what is installed)"
    )
