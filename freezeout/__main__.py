"""`python -m freezeout`."""

import sys

from freezeout.cli import main

if __name__ == "__main__":
    sys.exit(main())
