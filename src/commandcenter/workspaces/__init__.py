"""Isolated checkouts that run commands: one file a kind."""
