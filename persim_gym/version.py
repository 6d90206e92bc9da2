"""The package's version, which nothing else has to be imported for."""

__version__ = "0.1.0"
