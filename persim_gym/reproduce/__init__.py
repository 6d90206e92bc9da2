"""The thesis's tables and figures again: which cells they have, how a cell is run, and how results are shown."""
