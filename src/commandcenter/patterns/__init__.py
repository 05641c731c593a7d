"""Six ways for agents to work together, as pure generators: see `core.pattern`."""
