"""Measures: prediction error and returns in the true environment, intervals, published figures."""
