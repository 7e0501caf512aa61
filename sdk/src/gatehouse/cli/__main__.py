"""``python -m gatehouse.cli``."""

import sys

from gatehouse.cli import main

sys.exit(main())
