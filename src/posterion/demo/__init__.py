"""The demonstration: the origin notebook's Bayesian neural network, end to end, with pictures and a report.

An unchanged PyMC model of two inputs is fitted by variational inference, stops by itself, predicts held-out rows and a
grid, is fitted again by mini-batches, is saved, and predicts the same in a process that has no PyMC. Modules: `data`,
`model` (PyMC only), `steps`, `pictures`, `fresh_process`, `terminal`, `page`, `story` with the order of events, and
`run`, the door.
"""

from posterion.demo.run import Demo, run_demo

__all__ = ["Demo", "run_demo"]
