"""Pages for people, drawn from `summary.json`."""
