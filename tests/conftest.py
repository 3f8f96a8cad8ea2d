"""What holds for every test."""

import os

from hypothesis import settings

# A slow machine is no failure. In CI the same examples each time: a red run means a change, not luck.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
