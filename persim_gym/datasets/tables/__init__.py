"""From a table of logged rows to a Minari dataset."""
