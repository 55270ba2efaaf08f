"""The site's node: the process that connects to the coordinator and handles its requests."""
