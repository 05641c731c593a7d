"""`python -m commandcenter`."""

from commandcenter.cli import main

main()
