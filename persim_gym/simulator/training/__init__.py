"""Training: recipes, batches, engines, and the closed-form rounds after them."""
