"""The thesis's figures, and figures of its tables: each a picture, and beside it a CSV file of the numbers in it."""
