"""Every Python process that finds this directory measures briefly."""

import briefly  # noqa: F401
