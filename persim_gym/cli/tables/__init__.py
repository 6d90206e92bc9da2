"""The verbs that look at tables: `persim import`, and `persim doctor` with a table."""
