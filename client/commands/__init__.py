"""`fedrad-site`: the commands of a hospital's engineer and data-protection officer."""
