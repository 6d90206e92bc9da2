"""The factored ensemble: sizes, encoders, walls, and the ablations of the thesis."""
