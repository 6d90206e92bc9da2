"""MuJoCo robots: what their domains share, batched physics, and drawing."""
