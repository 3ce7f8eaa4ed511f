"""Search for a network structure for each language."""
