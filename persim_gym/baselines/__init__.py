"""The systems that the simulator is compared with."""
