"""`python -m edgeline_export`: the same as the command `export-model`."""

from edgeline_export.cli import main

raise SystemExit(main())
