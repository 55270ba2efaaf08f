"""`fedrad`: the commands of coordinators, researchers and reviewers."""
