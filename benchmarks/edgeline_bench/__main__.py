"""`python -m edgeline_bench`: the same as the command `benchmark-model`."""

from edgeline_bench.cli import main

raise SystemExit(main())
