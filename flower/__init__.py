"""Everything that depends on internals of Flower: processes, replaced functions, log lines."""
