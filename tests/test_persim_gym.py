"""What importing the package loads."""

import subprocess
import sys

IMPORT = """
import sys
import gymnasium
before = set(sys.modules)
import persim_gym
loaded = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
print(*sorted({".".join(name.split(".")[:2]) for name in loaded}))
"""


def test_importing_the_package_loads_the_environments_and_no_other_library():
    """No timing: a fifth of the seconds that Gymnasium itself takes, as long as nothing else is loaded."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    parts = {"persim_gym", "persim_gym.envs", "persim_gym.task", "persim_gym.version"}
    assert set(done.stdout.split()) == {"gymnasium.envs", *parts}
