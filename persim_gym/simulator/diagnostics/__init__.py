"""How good predictions are, and how far to trust them."""
