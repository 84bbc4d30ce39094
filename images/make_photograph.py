# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy", "pillow", "scikit-learn"]
# ///
"""Make photograph.png, the 1280 x 720 grayscale image of the multicore experiment, from scikit-learn's china.jpg.

The photograph is 640 x 427: its middle 640 x 360 is turned to luminance (ITU-R BT.601, as everywhere in convbench) and
enlarged twice in both directions (Lanczos). Run it with `pipx run images/make_photograph.py`.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

WIDTH, HEIGHT = 1280, 720

photograph = load_sample_image("china.jpg")
rows = HEIGHT * photograph.shape[1] // WIDTH
top = (photograph.shape[0] - rows) // 2
luminance = photograph[top : top + rows].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
enlarged = Image.fromarray(luminance).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
gray = np.clip(np.rint(np.asarray(enlarged)), 0, 255).astype(np.uint8)
Image.fromarray(gray).save(Path(__file__).with_name("photograph.png"), optimize=True)
