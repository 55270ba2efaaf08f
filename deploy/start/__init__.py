"""Starting an experiment: checks before it, base weights, and the run over a SuperLink."""
