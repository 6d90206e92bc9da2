"""The systems that PerSim is compared with, trained on the same logged data."""
