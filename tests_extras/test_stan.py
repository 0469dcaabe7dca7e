"""Stan and nothing else; needs a C++ compiler."""

from environment import only

import posterion as po

COIN = "data { int n; int heads; } parameters { real<lower=0, upper=1> p; } model { heads ~ binomial(n, p); }"


def test_the_environment_is_what_it_should_be():
    only("stan")


def test_a_program_is_compiled_and_fitted():
    approx = po.fit(po.stan(COIN, {"n": 20, "heads": 14}, progress=False), progress=False, random_seed=1)
    assert abs(float(approx.sample(2000)["posterior"]["p"].mean()) - 15 / 22) < 0.02
