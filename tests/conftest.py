"""Sets what every test of this repository relies on."""

import os

from hypothesis import settings

# A machine that also runs the local cloud is slow at times; a slow example is no failure, an endless one is (timeout).
settings.register_profile("explore", deadline=None, print_blob=True)
# CI tries the same examples each time, so that a commit is judged by what it changed; people's machines explore.
settings.register_profile("repeat", settings.get_profile("explore"), derandomize=True)
settings.load_profile("repeat" if os.environ.get("CI") else "explore")
