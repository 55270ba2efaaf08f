"""One site in one experiment: its patients, its training, its answers."""
