"""Jobs that worker processes import."""

import os


def square(number, plus=0):
    """A job for `run_jobs`, in a worker."""
    if number < 0:
        raise ValueError("no")
    return {"square": number**2 + plus, "process": os.getpid()}
