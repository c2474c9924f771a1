"""Runs the supervisor: `python -m local.supervisor --state-dir DIR`; `tidegate up` starts it detached."""

import argparse
import logging
import sys
from pathlib import Path

from local.supervisor.folders import Folders
from local.supervisor.run import run


def main() -> int:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.supervisor", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--port-base", type=int)
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    return run(Folders(state_dir=options.state_dir.absolute()), options.port_base)


if __name__ == "__main__":
    sys.exit(main())
