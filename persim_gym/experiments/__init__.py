"""The thesis's protocol and its published numbers."""
