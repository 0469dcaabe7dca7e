"""Reference models: one of everything a PyMC user may write, as functions in the dictionary `CASES`.

Laws are checked over all of them in `test_cases.py`. To cover something new, add a function here.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt

CASES: dict[str, Callable[[], pm.Model]] = {}

NEEDS_HOST_CALLBACKS = {"black_box_potential", "ode", "interpolated"}
REFUSED = {"simulator": "pm.Simulator", "discrete_free": "pymc_extras.marginalize"}
REFUSED_BY_PYMC = {"nan_in_data_container": NotImplementedError}
NO_PYMC_DENSITY = {"same_data_twice"}
"""PyMC itself cannot evaluate these; they are compared with a density written by hand."""

ROWS = 60
_random = np.random.default_rng(1)
X = _random.normal(size=(ROWS, 3))
Y = X @ [1.0, -1, 0.5] + 0.5 * _random.normal(size=ROWS)
LABELS = (Y > 0).astype(int)
GROUP = _random.integers(0, 6, ROWS)
COUNTS = _random.poisson(3, ROWS)
UNIT = _random.uniform(0.1, 0.9, ROWS)
PAIRS = _random.normal(size=(20, 2))
NEIGHBOURS = np.diag(np.ones(5), 1) + np.diag(np.ones(5), -1)


def case(build: Callable[[], pm.Model]) -> Callable[[], pm.Model]:
    """Put a model into the dictionary."""
    CASES[build.__name__] = build
    return build


def _imputing() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore")


# ------------------------------------------------------------------------------------------------ the way data enter


@case
def regression_with_data():
    with pm.Model(coords={"p": ["a", "b", "c"]}) as model:
        x = pm.Data("x", X, dims=("obs_id", "p"))
        y = pm.Data("y", Y, dims="obs_id")
        b = pm.Normal("b", 0, 1, dims="p")
        s = pm.HalfNormal("s", 1)
        mu = pm.Deterministic("mu", x @ b, dims="obs_id")
        pm.Normal("out", mu, s, observed=y, dims="obs_id")
    return model


@case
def regression_with_arrays():
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=3)
        s = pm.HalfNormal("s", 1)
        pm.Normal("out", pt.dot(X, b), s, observed=Y)
    return model


@case
def pandas_observed():
    table = pd.DataFrame({"x": X[:, 0], "y": Y})
    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.Exponential("s", 1.0)
        x = pm.Data("x", table["x"], dims="obs_id")
        pm.Normal("out", b * x, s, observed=table["y"], dims="obs_id")
    return model


@case
def shared_unregistered():
    x = pytensor.shared(X[:, 0].copy(), name="xs")
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("out", b * x, 1, observed=Y)
    return model


@case
def same_data_twice():
    with pm.Model() as model:
        y = pm.Data("y", Y)
        b = pm.Normal("b")
        pm.Normal("o1", b, 1, observed=y)
        pm.Normal("o2", b, 2, observed=y)
    return model


@case
def nan_in_data_container():
    with pm.Model() as model:
        y = pm.Data("y", np.where(np.arange(ROWS) == 3, np.nan, Y))
        b = pm.Normal("b")
        pm.Normal("out", b, 1, observed=y)
    return model


@case
def observed_scalar():
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("out", b, 1, observed=2.5)
    return model


@case
def total_size_list():
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Normal("out", b, 1, observed=X, total_size=[600, None])
    return model


@case
def minibatch():
    x, y = pm.Minibatch(X, Y, batch_size=10)
    with pm.Model() as model:
        b = pm.Normal("b", shape=3)
        s = pm.HalfNormal("s")
        pm.Normal("out", x @ b, s, observed=y, total_size=ROWS)
    return model


@case
def minibatch_of_data():
    with pm.Model() as model:
        x = pm.Data("x", X, dims=("obs_id", "p"))
        y = pm.Data("y", Y, dims="obs_id")
        x_batch, y_batch = pm.Minibatch(x, y, batch_size=10)
        b = pm.Normal("b", dims="p")
        pm.Normal("out", x_batch @ b, 1, observed=y_batch, total_size=ROWS)
    return model


@case
def mutable_dims():
    with pm.Model() as model:
        model.add_coord("g", np.arange(6))
        a = pm.Normal("a", dims="g")
        g = pm.Data("g_idx", GROUP, dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        pm.Normal("out", a[g], 1, observed=y, dims="obs_id")
    return model


@case
def labelled_axes():
    import pymc.dims as pmd

    with pm.Model(coords={"g": range(6), "obs": range(ROWS)}) as model:
        g = pmd.Data("g_idx", GROUP, dims="obs")
        a = pmd.Normal("a", dims="g")
        pmd.Normal("out", a.isel(g=g), 1.0, observed=pmd.as_xtensor(Y, dims=("obs",)))
    return model


@case
def labelled_axes_data():
    import pymc.dims as pmd

    with pm.Model(coords={"g": range(6), "obs": range(ROWS), "p": range(3)}) as model:
        g = pmd.Data("g_idx", GROUP, dims="obs")
        y = pmd.Data("y", Y, dims="obs")
        x = pmd.Data("x", X, dims=("obs", "p"))
        b = pmd.Normal("b", dims="p")
        a = pmd.Normal("a", dims="g")
        mu = pmd.Deterministic("mu", a.isel(g=g) + (x * b).sum("p"))
        pmd.Normal("out", mu, 1.0, observed=y)
    return model


# ------------------------------------------------------------------------------------ values that decide shapes


@case
def boolean_mask_of_data():
    with pm.Model() as model:
        y = pm.Data("y", Y)
        b = pm.Normal("b")
        pm.Potential("p", -pt.sum((y[y > 0] - b) ** 2))
    return model


@case
def unique_of_data():
    with pm.Model() as model:
        g = pm.Data("g", GROUP)
        n = pt.unique(g).shape[0]
        a = pm.Normal("a", shape=6)
        pm.Normal("out", a[g] / n, 1, observed=Y)
    return model


@case
def shape_from_maximum_of_data():
    with pm.Model() as model:
        g = pm.Data("g", GROUP)
        a = pm.Normal("a", shape=(g.max() + 1,))
        pm.Normal("out", a[g], 1, observed=Y)
    return model


@case
def arange_over_rows():
    with pm.Model() as model:
        y = pm.Data("y", Y, dims="t")
        n = y.shape[0]
        b = pm.Normal("b")
        pm.Normal("out", b * pt.arange(n) / n, 1, observed=y, dims="t")
    return model


# ------------------------------------------------------------------------------------------- parts of a model


@case
def potential():
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=3)
        x = pm.Data("x", X)
        y = pm.Data("y", Y)
        pm.Potential("penalty", -pt.sum(b**2))
        pm.Potential("rows", -0.5 * (y - x @ b) ** 2)
    return model


@case
def potential_and_observed():
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=3)
        pm.Potential("penalty", -pt.sum(b**2))
        pm.Normal("out", pt.dot(X, b), 1, observed=Y)
    return model


@case
def deterministic_of_observed():
    with pm.Model() as model:
        b = pm.Normal("b")
        out = pm.Normal("out", b, 1, observed=Y)
        pm.Deterministic("residual", out - b)
        pm.Deterministic("b2", b**2)
    return model


@case
def several_observed():
    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        pm.Normal("o1", b, s, observed=Y)
        pm.Poisson("o2", pt.exp(b), observed=COUNTS[:17])
        pm.MvNormal("o3", pt.stack([b, b]), np.eye(2), observed=PAIRS[:9])
    return model


@case
def hierarchical():
    with pm.Model(coords={"g": np.arange(6)}) as model:
        g = pm.Data("g_idx", GROUP, dims="obs_id")
        x = pm.Data("x", X[:, 0], dims="obs_id")
        y = pm.Data("y", Y, dims="obs_id")
        mu = pm.Normal("mu")
        tau = pm.HalfNormal("tau")
        offset = pm.Normal("offset", dims="g")
        a = pm.Deterministic("a", mu + tau * offset, dims="g")
        b = pm.Normal("b", mu, tau, dims="g")
        s = pm.HalfCauchy("s", 1)
        pm.Normal("out", a[g] + b[g] * x, s, observed=y, dims="obs_id")
    return model


@case
def local_latent():
    with pm.Model() as model:
        y = pm.Data("y", Y, dims="obs_id")
        mu = pm.Normal("mu")
        t = pm.Normal("t", mu, 1, dims="obs_id")
        pm.Normal("out", t, 1, observed=y, dims="obs_id")
    return model


@case
def nested_model():
    with pm.Model() as model:
        with pm.Model("sub"):
            a = pm.Normal("a")
        pm.Normal("out", a, 1, observed=Y)
    return model


@case
def do_and_observe():
    with pm.Model() as model:
        a = pm.Normal("a")
        b = pm.Normal("b", a, 1)
        pm.Normal("out", b, 1, shape=ROWS)
    return pm.observe(pm.do(model, {"a": 1.0}), {"out": Y})


@case
def initial_values():
    with pm.Model() as model:
        a = pm.Normal("a", initval="prior")
        b = pm.HalfNormal("b", initval=2.0)
        pm.Normal("out", a, b, observed=Y)
    return model


# ------------------------------------------------------------------------------------------------ missing values


@case
def imputed():
    y = Y.copy()
    y[[3, 7, 20]] = np.nan
    with _imputing(), pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        pm.Normal("out", b, s, observed=y)
    return model


@case
def imputed_covariate():
    x = X.copy()
    x[[3, 7], [0, 1]] = np.nan
    with _imputing(), pm.Model() as model:
        b = pm.Normal("b", shape=3)
        xx = pm.Normal("xx", 0, 1, observed=x)
        pm.Normal("out", xx @ b, 1, observed=Y)
    return model


@case
def imputed_multivariate():
    pairs = PAIRS.copy()
    pairs[3, 1] = np.nan
    pairs[7] = np.nan
    with _imputing(), pm.Model() as model:
        mu = pm.Normal("mu", shape=2)
        pm.MvNormal("out", mu, np.eye(2), observed=pairs)
    return model


# ------------------------------------------------------------------------------------------------ users' own densities


@case
def custom_logp():
    def logp(value, mu):
        return -((value - mu) ** 2)

    with pm.Model() as model:
        b = pm.Normal("b")
        pm.CustomDist("out", b, logp=logp, observed=Y)
    return model


@case
def custom_dist():
    def dist(mu, sigma, size):
        return pt.exp(pm.Normal.dist(mu, sigma, size=size))

    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        pm.CustomDist("out", b, s, dist=dist, observed=np.exp(Y))
    return model


@case
def custom_dist_free():
    def dist(mu, sigma, size):
        return pm.Normal.dist(mu, sigma, size=size) * 2

    with pm.Model() as model:
        s = pm.HalfNormal("s")
        b = pm.CustomDist("b", 0.0, s, dist=dist, shape=4)
        pm.Normal("out", b.sum(), 1, observed=Y)
    return model


@case
def black_box_potential():
    from pytensor.graph import Apply
    from pytensor.graph.op import Op

    class BlackBox(Op):
        def make_node(self, x):
            return Apply(self, [pt.as_tensor(x)], [pt.dscalar()])

        def perform(self, node, inputs, outputs):
            outputs[0][0] = np.asarray(-0.5 * inputs[0] ** 2)

        def grad(self, inputs, gradients):
            return [-inputs[0] * gradients[0]]

    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Potential("black_box", BlackBox()(b))
        pm.Normal("out", b, 1, observed=Y)
    return model


@case
def wrapped_jax():
    import jax.numpy as jnp

    @pytensor.wrap_jax
    def wave(b, x):
        return jnp.sin(b * x)

    with pm.Model() as model:
        b = pm.Normal("b")
        x = pm.Data("x", X[:, 0])
        pm.Normal("out", wave(b, x), 1, observed=Y)
    return model


@case
def interpolated():
    grid = np.linspace(-9, 9, 50)
    with pm.Model() as model:
        b = pm.Normal("b")
        pm.Interpolated("i", grid, np.exp(-(grid**2)))
        pm.Normal("out", b, 1, observed=Y)
    return model


@case
def simulator():
    def simulate(rng, mu, size=None):
        return rng.normal(mu, 1, size=size)

    with pm.Model() as model:
        mu = pm.Normal("mu")
        pm.Simulator("out", simulate, mu, observed=Y)
    return model


# ------------------------------------------------------------------------------------------- censored and truncated


@case
def censored():
    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        pm.Censored("out", pm.Normal.dist(b, s), lower=-1, upper=1, observed=np.clip(Y, -1, 1))
    return model


@case
def censored_weibull():
    with pm.Model() as model:
        a = pm.HalfNormal("a")
        s = pm.HalfNormal("s")
        times = np.clip(np.abs(Y) + 0.1, 0, 2.0)
        pm.Censored("out", pm.Weibull.dist(a, s), lower=None, upper=2.0, observed=times)
    return model


@case
def censored_gamma():
    with pm.Model() as model:
        a = pm.HalfNormal("a")
        s = pm.HalfNormal("s")
        times = np.clip(np.abs(Y) + 0.1, 0, 2.0)
        pm.Censored("out", pm.Gamma.dist(a + 0.1, s + 0.1), lower=None, upper=2.0, observed=times)
    return model


@case
def censored_beta():
    with pm.Model() as model:
        a = pm.HalfNormal("a")
        s = pm.HalfNormal("s")
        pm.Censored("out", pm.Beta.dist(a + 0.1, s + 0.1), lower=None, upper=0.8, observed=np.clip(UNIT, 0, 0.8))
    return model


@case
def censored_student():
    with pm.Model() as model:
        a = pm.Normal("a")
        s = pm.HalfNormal("s")
        pm.Censored("out", pm.StudentT.dist(nu=3.0, mu=a, sigma=s), lower=-1, upper=1.0, observed=np.clip(Y, -1, 1))
    return model


@case
def truncated():
    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        pm.Truncated("out", pm.Normal.dist(b, s), lower=-9, upper=9, observed=Y)
        pm.Truncated("t", pm.Normal.dist(0, 1), lower=0.0)
    return model


@case
def truncated_normal():
    with pm.Model() as model:
        b = pm.TruncatedNormal("b", 0, 1, lower=-1, upper=2)
        pm.Normal("out", b, 1, observed=Y)
    return model


@case
def truncated_gamma():
    with pm.Model() as model:
        b = pm.HalfNormal("b")
        pm.Truncated("out", pm.Gamma.dist(b + 0.5, 1.0), upper=20.0, observed=np.abs(Y) + 0.1)
    return model


# ------------------------------------------------------------------------------------------------ mixtures


@case
def normal_mixture():
    ordered = pm.distributions.transforms.ordered
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(3))
        mu = pm.Normal("mu", [-1, 0, 1], 1, shape=3, transform=ordered, initval=[-1, 0, 1])
        s = pm.HalfNormal("s", shape=3)
        pm.NormalMixture("out", w, mu, s, observed=Y)
    return model


@case
def mixture_of_components():
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(2))
        mu = pm.Normal("mu")
        pm.Mixture("out", w, [pm.Normal.dist(mu, 1), pm.StudentT.dist(nu=3, mu=mu, sigma=2)], observed=Y)
    return model


@case
def zero_inflated_and_hurdle():
    with pm.Model() as model:
        p = pm.Beta("p", 1, 1)
        rate = pm.Gamma("rate", 2, 1)
        pm.ZeroInflatedPoisson("out", p, rate, observed=COUNTS)
        pm.HurdleGamma("h", p, 2.0, rate, observed=np.abs(Y))
    return model


@case
def discrete_free():
    with pm.Model() as model:
        z = pm.Bernoulli("z", 0.3)
        mu = pm.Normal("mu")
        pm.Normal("out", pt.switch(z, mu, -mu), 1, observed=Y)
    return model


@case
def marginalized():
    import pymc_extras as pmx

    with pm.Model() as model:
        z = pm.Bernoulli("z", 0.3, shape=ROWS)
        mu = pm.Normal("mu")
        pm.Normal("out", pt.switch(z, mu, -mu), 1, observed=Y)
    return pmx.marginalize(model, ["z"])


@case
def marginalized_scalar():
    import pymc_extras as pmx

    with pm.Model() as model:
        z = pm.Bernoulli("z", 0.3)
        mu = pm.Normal("mu")
        pm.Normal("out", pt.switch(z, mu, -mu), 1, observed=Y)
    return pmx.marginalize(model, ["z"])


# ------------------------------------------------------------------------------------------------ constrained variables


@case
def zero_sum():
    with pm.Model(coords={"g": np.arange(6), "h": range(3)}) as model:
        z = pm.ZeroSumNormal("z", 1.0, dims="g")
        z2 = pm.ZeroSumNormal("z2", 1.0, dims=("h", "g"), n_zerosum_axes=2)
        pm.Normal("out", z[GROUP] + z2[0][GROUP], 1, observed=Y)
    return model


@case
def dirichlet_batch():
    with pm.Model() as model:
        p = pm.Dirichlet("p", np.ones((4, 3)))
        pm.Multinomial("out", n=10, p=p, observed=np.array([[2, 3, 5], [1, 4, 5], [3, 3, 4], [0, 2, 8]]))
        pm.Categorical("c", p=p[0], observed=GROUP % 3)
    return model


@case
def lkj_cholesky():
    with pm.Model() as model:
        chol, _, _ = pm.LKJCholeskyCov("chol", n=3, eta=2.0, sd_dist=pm.Exponential.dist(1.0, shape=3))
        mu = pm.Normal("mu", shape=3)
        pm.MvNormal("out", mu, chol=chol, observed=X)
    return model


@case
def lkj_correlation():
    with pm.Model() as model:
        c = pm.LKJCorr("c", n=3, eta=2.0)
        pm.MvNormal("out", np.zeros(3), cov=c if c.ndim == 2 else np.eye(3), observed=X)
    return model


@case
def ordered_logistic():
    ordered = pm.distributions.transforms.ordered
    with pm.Model() as model:
        c = pm.Normal("c", [-1, 0, 1], 1, shape=3, transform=ordered, initval=[-1, 0, 1])
        b = pm.Normal("b")
        pm.OrderedLogistic("out", eta=b * X[:, 0], cutpoints=c, observed=GROUP % 4)
    return model


@case
def ordered_probit():
    ordered = pm.distributions.transforms.ordered
    with pm.Model() as model:
        c = pm.Normal("c", [-1, 0, 1], 1, shape=3, transform=ordered, initval=[-1, 0, 1])
        b = pm.Normal("b")
        pm.OrderedProbit("out", eta=b * X[:, 0], cutpoints=c, observed=GROUP % 4)
    return model


@case
def bounded_variables():
    with pm.Model() as model:
        u = pm.Uniform("u", -1, 2)
        dependent = pm.Uniform("dependent", 0, u + 2)
        total = u + dependent + pm.Beta("beta", 2, 2) + pm.VonMises("von_mises", 0, 1.0)
        total += pm.HalfFlat("half_flat") + pm.Flat("flat") + pm.Triangular("triangular", 0, 1, 0.5)
        total += pm.LogNormal("log_normal") + pm.InverseGamma("inverse_gamma", 2, 1)
        pm.Normal("out", total, 1, observed=Y)
    return model


# ------------------------------------------------------------------------------------------------ likelihoods


@case
def many_likelihoods():
    positive = np.abs(Y) + 0.1
    with pm.Model() as model:
        b = pm.Normal("b")
        s = pm.HalfNormal("s")
        e, q = pt.exp(b), pm.math.sigmoid(b)
        pm.NegativeBinomial("o1", mu=e, alpha=s, observed=COUNTS)
        pm.StudentT("o2", nu=4, mu=b, sigma=s, observed=Y)
        pm.SkewNormal("o3", mu=b, sigma=s, alpha=1.0, observed=Y)
        pm.Binomial("o4", n=10, p=q, observed=np.minimum(COUNTS, 10))
        pm.BetaBinomial("o5", n=10, alpha=e, beta=s, observed=np.minimum(COUNTS, 10))
        pm.Gamma("o6", mu=e, sigma=s, observed=positive)
        pm.Weibull("o7", e, s, observed=positive)
        pm.Beta("o8", mu=q, nu=s + 2, observed=UNIT)
        pm.Laplace("o9", b, s, observed=Y)
        pm.AsymmetricLaplace("o10", kappa=e, mu=b, b=s, observed=Y)
        pm.ExGaussian("o11", mu=b, sigma=s, nu=e, observed=Y)
        pm.Wald("o12", mu=e, lam=s, observed=positive)
        pm.Logistic("o13", b, s, observed=Y)
        pm.Gumbel("o14", b, s, observed=Y)
        pm.Cauchy("o15", b, s, observed=Y)
        pm.Bernoulli("o16", logit_p=b, observed=LABELS)
        pm.Geometric("o17", q, observed=COUNTS + 1)
        pm.HyperGeometric("o18", N=50, k=20, n=10, observed=np.minimum(COUNTS, 10))
        pm.DiscreteUniform("o19", 0, 20, observed=COUNTS)
        pm.Pareto("o20", alpha=e, m=0.05, observed=positive)
        pm.Kumaraswamy("o21", e, s, observed=UNIT)
        pm.LogitNormal("o22", b, s, observed=UNIT)
        pm.Rice("o23", nu=e, sigma=s, observed=positive)
        pm.Moyal("o24", b, s, observed=Y)
        pm.InverseGamma("o25", e, s, observed=positive)
        pm.DiscreteWeibull("o26", q, e, observed=COUNTS)
        pm.VonMises("o27", b, e, observed=np.clip(Y, -3, 3))
        pm.ChiSquared("o28", nu=e + 1, observed=positive)
        pm.HalfStudentT("o29", nu=3, sigma=s, observed=positive)
        pm.DirichletMultinomial("o30", n=5, a=pt.stack([e, s]), observed=np.array([[2, 3], [4, 1]]))
    return model


@case
def multivariate_student():
    with pm.Model() as model:
        mu = pm.Normal("mu", shape=3)
        pm.MvStudentT("out", nu=4, mu=mu, scale=np.eye(3), observed=X)
    return model


@case
def large_logits():
    with pm.Model() as model:
        b = pm.Normal("b", 0, 100, initval=150.0)
        pm.Bernoulli("out", pm.math.sigmoid(b * np.linspace(1, 5, ROWS)), observed=np.ones(ROWS, int))
    return model


# ------------------------------------------------------------------------------------------------ Gaussian processes


@case
def gp_marginal():
    with pm.Model() as model:
        length = pm.Gamma("length", 2, 1)
        noise = pm.HalfNormal("noise")
        eta = pm.HalfNormal("eta")
        gp = pm.gp.Marginal(cov_func=eta**2 * pm.gp.cov.ExpQuad(1, ls=length))
        gp.marginal_likelihood("out", X=X[:, :1], y=Y, sigma=noise)
    return model


@case
def gp_marginal_of_data():
    with pm.Model() as model:
        x = pm.Data("x", X[:, :1], dims=("obs_id", "one"))
        y = pm.Data("y", Y, dims="obs_id")
        length = pm.Gamma("length", 2, 1)
        noise = pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.Matern52(1, ls=length))
        gp.marginal_likelihood("out", X=x, y=y, sigma=noise)
    return model


@case
def gp_sparse():
    with pm.Model() as model:
        length = pm.Gamma("length", 2, 1)
        noise = pm.HalfNormal("noise")
        gp = pm.gp.MarginalApprox(approx="VFE", cov_func=pm.gp.cov.ExpQuad(1, ls=length))
        gp.marginal_likelihood("out", X=X[:, :1], Xu=np.linspace(-2, 2, 5)[:, None], y=Y, sigma=noise)
    return model


@case
def gp_latent():
    with pm.Model() as model:
        length = pm.Gamma("length", 2, 1)
        gp = pm.gp.Latent(cov_func=pm.gp.cov.ExpQuad(1, ls=length))
        f = gp.prior("f", X=X[:, :1])
        pm.Bernoulli("out", logit_p=f, observed=LABELS)
    return model


@case
def gp_hilbert():
    with pm.Model() as model:
        x = pm.Data("x", X[:, :1], dims=("obs_id", "one"))
        y = pm.Data("y", Y, dims="obs_id")
        length = pm.Gamma("length", 2, 1)
        gp = pm.gp.HSGP(m=[8], c=1.5, cov_func=pm.gp.cov.ExpQuad(1, ls=length))
        f = gp.prior("f", X=x, dims="obs_id")
        pm.Normal("out", f, 1, observed=y, dims="obs_id")
    return model


@case
def gp_conditional():
    with pm.Model() as model:
        length = pm.Gamma("length", 2, 1)
        noise = pm.HalfNormal("noise")
        gp = pm.gp.Marginal(cov_func=pm.gp.cov.ExpQuad(1, ls=length))
        gp.marginal_likelihood("out", X=X[:20, :1], y=Y[:20], sigma=noise)
        gp.conditional("fp", np.linspace(-1, 1, 4)[:, None])
    return model


# ------------------------------------------------------------------------------------------------ time and space


@case
def random_walk_and_ar():
    with pm.Model() as model:
        s = pm.HalfNormal("s")
        w = pm.GaussianRandomWalk("w", sigma=s, init_dist=pm.Normal.dist(0, 1), steps=ROWS - 1)
        rho = pm.Normal("rho", 0, 0.3, shape=2)
        start = pm.Normal.dist(0, 1, shape=2)
        a = pm.AR("a", rho, sigma=1.0, init_dist=start, steps=ROWS - 2, constant=False)
        pm.Normal("out", w + a, 1, observed=Y)
    return model


@case
def ar_observed():
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 0.3)
        start = pm.Normal.dist(0, 1, shape=1)
        pm.AR("out", pt.stack([rho]), sigma=1.0, init_dist=start, observed=Y, constant=False)
    return model


@case
def scan():
    with pm.Model() as model:
        r = pm.Beta("r", 2, 2)
        x0 = pm.Normal("x0")
        xs = pytensor.scan(
            fn=lambda x, r: r * x + 0.1, outputs_info=[x0], non_sequences=[r], n_steps=ROWS, return_updates=False
        )
        pm.Normal("out", xs, 1, observed=Y)
    return model


@case
def ode():
    times = np.linspace(0.1, 2, 10)

    def decay(y, t, p):
        return [-p[0] * y[0]]

    with pm.Model() as model:
        k = pm.HalfNormal("k")
        solve = pm.ode.DifferentialEquation(func=decay, times=times, n_states=1, n_theta=1, t0=0)
        pm.Normal("out", solve(y0=[1.0], theta=[k])[:, 0], 0.1, observed=np.exp(-times))
    return model


@case
def spatial():
    with pm.Model() as model:
        c = pm.CAR("c", mu=np.zeros(6), W=NEIGHBOURS, alpha=0.5, tau=1.0)
        i = pm.ICAR("i", W=NEIGHBOURS)
        k = pm.KroneckerNormal("k", mu=np.zeros(4), covs=[np.eye(2), np.eye(2)])
        m = pm.MatrixNormal("m", mu=np.zeros((2, 2)), rowcov=np.eye(2), colcov=np.eye(2))
        sticks = pm.StickBreakingWeights("sticks", alpha=1.0, K=3)
        pm.Normal("out", c[GROUP] + i[GROUP] + k.sum() + m.sum() + sticks[0], 1, observed=Y)
    return model


@case
def spatial_with_free_alpha():
    with pm.Model() as model:
        alpha = pm.Beta("alpha", 2, 2)
        c = pm.CAR("c", mu=np.zeros(6), W=NEIGHBOURS, alpha=alpha, tau=1.0)
        pm.Normal("out", c[GROUP], 1, observed=Y)
    return model


# ------------------------------------------------------------------------------------------------ linear algebra


@case
def sparse_dot():
    import pytensor.sparse as ps
    import scipy.sparse as sp

    matrix = sp.csr_matrix(np.where(np.abs(X) > 1, X, 0))
    with pm.Model() as model:
        b = pm.Normal("b", shape=(3, 1))
        pm.Normal("out", ps.structured_dot(matrix, b)[:, 0], 1, observed=Y)
    return model


@case
def linear_solve():
    with pm.Model() as model:
        length = pm.HalfNormal("length", shape=3)
        k = pt.diag(length) + 0.1 * np.eye(3)
        v = pt.linalg.solve(k, pt.ones(3))
        pm.Normal("out", pt.dot(X, v) + pt.linalg.slogdet(k)[1], 1, observed=Y)
    return model
