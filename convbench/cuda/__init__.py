"""What forms on a GPU share: CUDA sources, and what fills them in and launches them."""

from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
"""The folder of the sources."""
