"""python -m torch_rvv: see cli.py."""

import sys

from torch_rvv.cli import main

sys.exit(main())
