"""Which policy is best for an agent, and how sure that is: candidates rolled out in its simulator, and fitted Q."""
