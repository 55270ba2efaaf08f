"""A generator that two sites trained."""

import pytest
from support.generators import allow_generator, run_generator
from support.hospital import write_site


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """A generator trained by two sites; a folder with `out`, `a`, `b`, `state`. To read only."""
    root = tmp_path_factory.mktemp("generator")
    sites = {
        name: allow_generator(write_site(root / name, 30, seed=seed))
        for seed, name in enumerate(["a", "b"], start=1)
    }
    run_generator(root, sites)
    return root
