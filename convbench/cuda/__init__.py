"""Building blocks of the GPU algorithms: CUDA sources, their parameters, and launches."""

from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent
"""The folder of the CUDA sources."""
