"""Planners over any dynamics, learned or true."""
