"""`python -m persim_gym`."""

from persim_gym.cli import main

main()
