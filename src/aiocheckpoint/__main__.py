"""`python -m aiocheckpoint`: the command line tool."""

from __future__ import annotations

import sys

from aiocheckpoint.cli import main

sys.exit(main())
