"""Context-aware dynamics models: they know an agent by its last steps, not by its number.

Vanilla CaDM is one deterministic model; PE-TS CaDM is an ensemble of Gaussian ones whose particles sample trajectories.
Both learn offline from logged trajectories, and predict, plan and act as environments where simulators do.

Source: Lee, Seo, Lee, Lee, Shin: Context-aware Dynamics Model for Generalization in Model-Based Reinforcement Learning,
ICML 2020; thesis section 5.2 and appendix A.2.
"""
