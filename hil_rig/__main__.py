"""`python -m hil_rig` is `hil-rig`."""

import sys

from hil_rig.cli import main

sys.exit(main())
