"""Proves an installation: the ten scenarios in every mode, watched by a judge, and on record."""
