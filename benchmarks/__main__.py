"""Time every algorithm on shapes that ask different things of it, in one sweep: `make bench`."""

import convbench
from convbench.report.content import Material
from convbench.report.summary import section
from convbench.terminal import show_table, sweep_progress

SHAPES = (
    'mb1ic1ih720iw1280oc128kh11kw11n"multicore"',
    'mb1ic1ih720iw1280oc128kh3kw3n"small-kernels"',
    'mb1ic64ih56oc64kh3ph1n"resnet:3x3"',
    'mb1ic256ih56oc64kh1ph0n"resnet:1x1"',
    'mb1ic3ih227oc96kh11sh4ph0n"alexnet:conv1"',
    'g64mb1ic64ih56oc64kh3ph1n"depthwise"',
)

with sweep_progress(None) as progress:
    results = convbench.sweep(SHAPES, executors=["serial", "threads"], runs=3, on_progress=progress)
for table in section(Material(results.sweep, results.sweep.header["spec"])).tables:
    show_table(table)
