"""After the last round: choices by validation patients, then one scoring of test patients."""
