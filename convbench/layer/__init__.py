"""The convolution as other programs call it: `Conv2d`, which holds weights, and `conv2d`, a call that is given them.

Both choose a candidate for each shape of the image by `convbench.select`, bind it as a `Plan`, and keep a bounded
number of plans. What a call adds to its plan is a look-up by the image's shape and dtype.
"""

from convbench.layer.given_weights import conv2d
from convbench.layer.held_weights import Conv2d

__all__ = ["Conv2d", "conv2d"]
