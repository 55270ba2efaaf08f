"""Makes `summary.json` from the figures that sites released."""
