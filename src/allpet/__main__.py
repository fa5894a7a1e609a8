"""``python -m allpet`` is the command ``allpet``."""

import sys

from allpet.cli import main

if __name__ == "__main__":
    sys.exit(main())
