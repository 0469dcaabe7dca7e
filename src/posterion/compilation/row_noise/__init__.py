r"""A function of one row with its normal weights drawn anew for every row, read off its jaxpr.

Weights :math:`w \sim N(m, s^2)`, all independent, that one row meets in a single product, may be drawn for each row
apart: every row still meets weights of that very distribution, so that means over rows keep their expectation, and the
noise of different rows averages out. Two ways that need no weights drawn row by row:

.. math::

    x^\top w &\sim N\big(x^\top m,\; (x^2)^\top s^2\big) && \text{local reparametrisation} \\
    x_p^\top w &= x_p^\top m + r \circ \big((a \circ x_p)^\top (w - m)\big), \quad a, r \in \{-1, 1\} && \text{Flipout}

The first where a row meets the weights once; the second where it meets them in several positions p (convolutions, the
elements of a sequence), whose outputs belong together. Biases, which are added, are drawn. All other values take one
draw that all rows share: of weights that are used twice, looked up, inverted, carried through a loop, and of whatever
else is not recognised.

Everything is found by following ``z`` through the jaxpr: cut, reshaped, converted, and multiplied by what does not
depend on it, it stays normal.

References
----------
Kingma, Salimans and Welling (2015), Variational Dropout and the Local Reparameterization Trick.
Wen, Vicol, Ba, Tran and Grosse (2018), Flipout: Efficient Pseudo-Independent Weight Perturbations on Mini-Batches.
"""

from posterion.compilation.row_noise.program import POOL, RowProgram
from posterion.compilation.row_noise.running import Parts
from posterion.compilation.row_noise.uses import Span, Use, Way

__all__ = ["POOL", "Parts", "RowProgram", "Span", "Use", "Way"]
