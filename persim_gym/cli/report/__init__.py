"""The verb that writes a page about a simulator."""
