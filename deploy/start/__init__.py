"""Starting an experiment: checks, base weights, and the run over a SuperLink."""
