"""Many jobs on all cores of this machine or of a Ray cluster: what is done is kept, what fails is tried again."""

from persim_gym.jobs.local import available_cores
from persim_gym.jobs.rows import RowLog
from persim_gym.jobs.run import BACKENDS, JobPlace, JobsFailed, check_place, run_jobs, run_unlogged

__all__ = [
    "BACKENDS",
    "JobPlace",
    "JobsFailed",
    "RowLog",
    "available_cores",
    "check_place",
    "run_unlogged",
    "run_jobs",
]
