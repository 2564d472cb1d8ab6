"""`python -m edgeline_train`: the same as the command `train-model`."""

from edgeline_train.cli import main

raise SystemExit(main())
