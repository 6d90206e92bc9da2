"""Jobs that worker processes import."""

import os
import time


def square(number, plus=0):
    """A job for `run_jobs`, in a worker."""
    if number < 0:
        raise ValueError("no")
    return {"square": number**2 + plus, "process": os.getpid()}


def soon_or_never(number):
    """A job that takes no time, or an hour."""
    if number:
        time.sleep(3600)
    return {"value": number}
