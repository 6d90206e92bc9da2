"""Behavior policies, which log the data, and the test policies: networks, and how they were trained."""
