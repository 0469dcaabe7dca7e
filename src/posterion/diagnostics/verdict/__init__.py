"""The verdict: whether an approximation can be trusted, why, and what to do about it, in sentences.

Two kinds of model are judged differently. For most, Pareto k-hat of the importance ratios says whether the whole joint
distribution was met (see `psis`). For networks it cannot: their weights can be permuted and change sign without
changing the network, so the posterior has thousands of equal modes, any one approximation covers one of them, and
k-hat is far above its limit however good the predictions are [1]_. They are judged by what their functions do: whether
the fit settled, and whether the evidence bound is clearly above that of a model that ignores the inputs, which wide
mean-field networks fail to reach [2]_.

References
----------
.. [1] Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work?: Evaluating variational inference. ICML.
.. [2] Coker, Bruinsma, Burt, Pan and Doshi-Velez (2022), Wide mean-field Bayesian neural networks ignore the data.
   AISTATS.
"""

from posterion.diagnostics.verdict.held_out import null_scores, with_collapse, with_held_out
from posterion.diagnostics.verdict.judging import judge
from posterion.diagnostics.verdict.moved import with_corrections
from posterion.diagnostics.verdict.networks import null_elbo
from posterion.diagnostics.verdict.ratios import bound
from posterion.diagnostics.verdict.scores import with_scores
from posterion.diagnostics.verdict.stop import still_improving
from posterion.diagnostics.verdict.verdict import Verdict

__all__ = [
    "Verdict",
    "bound",
    "judge",
    "null_elbo",
    "null_scores",
    "still_improving",
    "with_collapse",
    "with_corrections",
    "with_held_out",
    "with_scores",
]
