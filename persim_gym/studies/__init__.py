"""Measurements behind the documents."""
