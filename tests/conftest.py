"""What holds for every test."""

from __future__ import annotations

import os

# Several tests run at once, and each of them may train: threads of one that wait would keep the other ones
# from their core. Children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
