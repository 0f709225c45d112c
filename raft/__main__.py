"""``python -m raft``: the same as the command ``raft``."""

import sys

from raft.cli import main

sys.exit(main())
