"""From the figures that sites released to `summary.json`."""
