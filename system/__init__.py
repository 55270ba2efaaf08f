"""Access to the operating system: files, folders, ports, environment."""
