"""One fit from inside: the arrays on the device, the compiled programs, and the order of events.

A first fit in a process is made of compiling, so everything here that is not one of a few programs runs in NumPy: an
operation of JAX outside a compiled program costs 20 to 50 milliseconds the first time. The programs are compiled at the
same time and kept with the target for its next fit.
"""

from posterion.engine.choosing import choose_method
from posterion.engine.controls import Controls
from posterion.engine.fitted import Fitted
from posterion.engine.given import Given, prepare_data
from posterion.engine.run import no_steps, run
from posterion.engine.task import Task

__all__ = ["Controls", "Fitted", "Given", "Task", "choose_method", "no_steps", "prepare_data", "run"]
