"""`python -m vehicle_agent` is `vehicle-agent`."""

import sys

from vehicle_agent.cli import main

sys.exit(main())
