"""`python -m worker.cli`: the command `rowscore` where its script is not installed."""

from worker.cli import main

main()
