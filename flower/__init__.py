"""All that is private to Flower: its processes, the parts of it that fedrad replaces, its log."""
