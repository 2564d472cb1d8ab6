"""`python -m edgeline`: the same as the command `edgeline`."""

from edgeline.cli import main

raise SystemExit(main())
