"""What fedrad asks of the operating system: files, folders, ports, environment."""
