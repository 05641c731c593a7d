"""Agent plug-ins, one file each: phrase a prompt as a command, read output into a report."""
