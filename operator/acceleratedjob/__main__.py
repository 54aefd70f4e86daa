"""`python -m acceleratedjob`."""

import sys

from acceleratedjob.cli import main

sys.exit(main())
