"""After the last round: validation patients choose, test patients are scored once."""
