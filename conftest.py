"""For the tests and for nbval's run of the notebooks, whose kernels get this process's environment."""

import os

os.environ["CONCEPTCLIP_PROGRESS"] = "off"  # what passes here was not solved by a reader
