"""Names of files in folders of ours, and the words by which other files are known for ours."""

CARD = "card.json"
WEIGHTS = "weights.safetensors"
MEASURED = "measured.safetensors"
"""What was measured of the weights and is too large for a card; another measurement replaces it, and they stay."""
README = "README.md"
SIGNATURE = "written by persim_gym"
"""Stands in files that may be replaced without asking, where it shows the least."""
