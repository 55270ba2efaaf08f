"""The site's node: the process that is connected to the coordinator and runs its requests."""
