"""`python -m samevoice` is the `samevoice` command."""

from samevoice.cli import main

main()
