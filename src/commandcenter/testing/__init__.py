"""Shipped contract suites and fakes, for our tests and those of plug-in authors."""
