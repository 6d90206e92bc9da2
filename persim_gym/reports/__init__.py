"""What is known of a simulator and its agents, as one page of HTML that needs nothing else."""
