"""`python -m node` is the `joule` command."""

from node.cli import main

main()
