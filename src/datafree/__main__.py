"""The command line, for `python -m datafree`."""

import sys

from datafree.commands.main import main

sys.exit(main())
