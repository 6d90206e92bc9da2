"""The verbs of single policies: `persim train-policy` and `persim export`."""
