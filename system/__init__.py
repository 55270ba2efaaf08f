"""What every room needs of the machine: files, folders, ports, commands, errors, templates."""
