"""For processes whose times nobody looks at: by default, sweeps measure briefly."""

from convbench.measure.spec import Timing

fields = Timing.__dataclass_fields__
brief = {"min_samples": 2, "max_samples": 2, "min_seconds": 0.0, "max_warmups": 2}
brief |= {"wake_seconds": 0.0, "peak_repetitions": 1}
for name, value in brief.items():
    setattr(Timing, name, value)
Timing.__init__.__defaults__ = tuple(brief.get(name, fields[name].default) for name in fields)
