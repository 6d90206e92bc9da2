"""People with type 1 diabetes, each a virtual patient of the UVa/Padova model. A simulation, and no medical advice."""
