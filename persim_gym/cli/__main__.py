"""`python -m persim_gym.cli`."""

from persim_gym.cli import main

main()
