"""The models of the gallery's chapter on generalized linear models, one outcome per row."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import expit

from tests.frontends.pymc.gallery.examples import Built, example

X_NEW = np.linspace(-1.5, 1.5, 25)


def line(seed, rows=100, level=1.0, slope=2.0, sd=0.5):
    """A covariate and what a straight line with noise makes of it."""
    random = np.random.default_rng(seed)
    x = random.uniform(-2, 2, rows)
    return random, x, level + slope * x + sd * random.normal(size=rows)


@example("GLM-linear")
def linear():
    """A straight line with normal noise, new rows."""
    _, x, y = line(0)
    with pm.Model() as model:
        at = pm.Data("x", x, dims="row")
        sigma = pm.HalfCauchy("sigma", 10)
        level, slope = pm.Normal("Intercept", 0, 20), pm.Normal("slope", 0, 20)
        pm.Normal("y", level + slope * at, sigma, observed=y, dims="row")
    return Built(model, "y", 1 + 2 * X_NEW, {"x": X_NEW})


@example("GLM-model-selection")
def polynomial():
    """A polynomial of degree three in powers of a column, new rows."""
    _, x, y = line(1)
    y = y + 1.5 * x**2
    powers = lambda v: np.vander(v, 4, increasing=True)
    with pm.Model(coords={"power": np.arange(4)}) as model:
        at = pm.Data("powers", powers(x), dims=("row", "power"))
        b, sigma = pm.Normal("b", 0, 10, dims="power"), pm.HalfNormal("sigma", 1)
        pm.Normal("y", pm.math.dot(at, b), sigma, observed=y, dims="row")
    return Built(model, "y", 1 + 2 * X_NEW + 1.5 * X_NEW**2, {"powers": powers(X_NEW)})


def with_outliers(seed):
    random, x, y = line(seed)
    far = random.choice(len(x), 8, replace=False)
    y[far] += random.choice([-1, 1], 8) * 15
    return x, y


@example("GLM-robust")
def student_t():
    """A straight line with Student-t noise, among outliers, new rows."""
    x, y = with_outliers(2)
    with pm.Model() as model:
        at = pm.Data("x", x, dims="row")
        level, slope = pm.Normal("Intercept", 0, 10), pm.Normal("slope", 0, 10)
        sigma = pm.HalfCauchy("sigma", 10)
        pm.StudentT("y", nu=3, mu=level + slope * at, sigma=sigma, observed=y, dims="row")
    return Built(model, "y", 1 + 2 * X_NEW, {"x": X_NEW})


@example("GLM-robust-with-outlier-detection")
def student_t_of_unknown_tails():
    """The same with a prior on the degrees of freedom and measured errors per row, new rows."""
    x, y = with_outliers(3)
    with pm.Model() as model:
        at, error = pm.Data("x", x, dims="row"), pm.Data("error", np.full(100, 0.5), dims="row")
        beta = pm.Normal("beta", 0, 10, shape=2)
        nu = pm.InverseGamma("nu", 2, 2)
        mu = pm.Deterministic("mu", beta[0] + beta[1] * at, dims="row")
        pm.StudentT("y", nu=nu, mu=mu, sigma=error, observed=y, dims="row")
    # Tails this long have no mean: what is predicted is the line.
    return Built(model, "mu", 1 + 2 * X_NEW, {"x": X_NEW, "error": np.full(len(X_NEW), 0.5)})


def hogg(x, y, labelled):
    """Hogg's mixture of a line and of outliers: with a label per row, or with the labels summed out by pm.Mixture."""
    with pm.Model() as model:
        at = pm.Data("x", x, dims="row")
        beta = pm.Normal("beta", 0, 10, shape=2)
        centre, spread = pm.Normal("centre of outliers", 0, 10), pm.HalfNormal("spread of outliers", 10)
        share = pm.Uniform("share of outliers", 0, 0.5)
        mu = beta[0] + beta[1] * at
        if labelled:
            outlier = pm.Bernoulli("outlier", p=share, shape=len(x))
            pm.Normal("y", pt.switch(outlier, centre, mu), pt.switch(outlier, spread, 0.5), observed=y, dims="row")
        else:
            parts = [pm.Normal.dist(mu, 0.5), pm.Normal.dist(centre + 0 * mu, 0.5 + spread)]
            pm.Mixture("y", w=pt.stack([1 - share, share]), comp_dists=parts, observed=y, dims="row")
    return model


@example("GLM-robust-with-outlier-detection", refused="pymc_extras.marginalize")
def labelled_outliers():
    """Each row an outlier or not: a discrete variable per row."""
    return Built(hogg(*with_outliers(4), labelled=True))


@example("GLM-robust-with-outlier-detection")
def outliers_summed_out():
    """The same with the labels summed out, new rows."""
    model = hogg(*with_outliers(4), labelled=False)
    return Built(model, "y", 1 + 2 * X_NEW, {"x": X_NEW}, means={"beta": (np.array([1.0, 2.0]), 0.25)})


def flat_priors(name):
    """A line under improper priors, one far point; ``name`` is the distribution of the noise."""
    _, x, y = line(5)
    x, y = np.append(x, 8.0), np.append(y, -3.0)
    weights = np.where(np.abs(x) > 4, 0.05, 1.0)
    with pm.Model(coords={"predictor": ["x"]}) as model:
        inputs = pm.Data("X", x[:, None], dims=("obs", "predictor"))
        level, beta = pm.Flat("intercept"), pm.Flat("beta", dims="predictor")
        sigma = pm.HalfFlat("sigma")
        mu = level + pm.math.dot(inputs, beta)
        if name == "normal":
            pm.Normal("y", mu, sigma, observed=y, dims="obs")
        elif name == "student":
            pm.StudentT("y", nu=pm.Exponential("nu", 1 / 30), mu=mu, sigma=sigma, observed=y, dims="obs")
        else:
            pm.Laplace("y", mu=mu, b=sigma / pm.Data("weights", weights, dims="obs"), observed=y, dims="obs")
    return model, weights, x, y


@example("GLM-robust-heteroscedastic")
def flat_normal():
    """A line with normal noise under improper priors, which follows the far point as least squares do, new rows."""
    model, _, x, y = flat_priors("normal")
    return Built(model, "y", np.polyval(np.polyfit(x, y, 1), X_NEW), {"X": X_NEW[:, None]})


@example("GLM-robust-heteroscedastic")
def flat_student():
    """The same with Student-t noise, which does not, new rows."""
    model, *_ = flat_priors("student")
    return Built(model, "y", 1 + 2 * X_NEW, {"X": X_NEW[:, None]}, means={"beta": (np.array([2.0]), 0.2)})


@example("GLM-robust-heteroscedastic")
def weighted_laplace():
    """Laplace noise whose scale is divided by a weight per row, new rows with weights."""
    model, *_ = flat_priors("laplace")
    return Built(model, "y", 1 + 2 * X_NEW, {"X": X_NEW[:, None], "weights": np.ones(25)})


@example("GLM-logistic")
def logistic():
    """Logistic regression in a column and its square, arrays in the formula."""
    random = np.random.default_rng(6)
    x = random.normal(size=300)
    p = expit(-0.5 + 1.5 * x - 0.5 * x**2)
    with pm.Model() as model:
        b = pm.Normal("b", 0, 3, shape=3)
        pm.Bernoulli("income", logit_p=b[0] + b[1] * x + b[2] * x**2, observed=random.random(300) < p)
    return Built(model, "income", p)


@example("GLM-out-of-sample-predictions")
def logistic_out_of_sample():
    """Logistic regression with an interaction on a design matrix, new rows in place of pm.set_data."""
    random = np.random.default_rng(7)
    design = lambda x: np.column_stack([np.ones(len(x)), x, x[:, 0] * x[:, 1]])
    x, new, truth = random.normal(size=(400, 2)), random.normal(size=(60, 2)), np.array([-0.5, 1.0, -1.0, 2.0])
    with pm.Model(coords={"effect": ["Intercept", "x1", "x2", "x1:x2"]}) as model:
        inputs = pm.Data("X", design(x), dims=("row", "effect"))
        y = pm.Data("y", (random.random(400) < expit(design(x) @ truth)).astype(int), dims="row")
        b = pm.Normal("b", 0, 1, dims="effect")
        p = pm.Deterministic("p", pm.math.invlogit(pm.math.dot(inputs, b)), dims="row")
        pm.Bernoulli("obs", p=p, observed=y, dims="row")
    return Built(model, "obs", expit(design(new) @ truth), {"X": design(new)})


@example("GLM-binomial-regression")
def binomial():
    """Successes among trials, rows of different trials, new rows."""
    random = np.random.default_rng(8)
    x, trials = np.linspace(-2, 2, 80), random.integers(5, 30, 80)
    with pm.Model() as model:
        at, n = pm.Data("x", x, dims="row"), pm.Data("n", trials, dims="row")
        level, slope = pm.Normal("beta0"), pm.Normal("beta1")
        p = pm.Deterministic("p", pm.math.invlogit(level + slope * at), dims="row")
        pm.Binomial("y", n=n, p=p, observed=random.binomial(trials, expit(0.5 + 1.2 * x)), dims="row")
    return Built(model, "y", 20 * expit(0.5 + 1.2 * X_NEW), {"x": X_NEW, "n": np.full(25, 20)})


def sneezes(draw):
    """Counts for two treatments, alone and together."""
    random = np.random.default_rng(9)
    a, b = random.integers(0, 2, (2, 400))
    mean = np.exp(1.5 + 0.8 * a - 1.0 * b + 0.4 * a * b)
    return a, b, draw(random, mean), mean


@example("GLM-poisson-regression")
def poisson():
    """Counts by two treatments and their interaction, arrays in the formula."""
    a, b, y, mean = sneezes(lambda random, mean: random.poisson(mean))
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, 10, shape=4)
        pm.Poisson("y", pt.exp(beta[0] + beta[1] * a + beta[2] * b + beta[3] * a * b), observed=y)
    return Built(model, "y", mean)


@example("GLM-negative-binomial-regression")
def negative_binomial():
    """The same with more spread than Poisson's, the four means exchanged."""
    a, b, y, mean = sneezes(lambda random, mean: random.poisson(mean * random.gamma(3, 1 / 3, 400)))
    with pm.Model() as model:
        beta, alpha = pm.Normal("beta", 0, 10, shape=4), pm.HalfCauchy("alpha", 2.5)
        mu = pt.exp(beta[0] + beta[1] * a + beta[2] * b + beta[3] * a * b)
        pm.NegativeBinomial("y", mu=mu, alpha=alpha, observed=y)
    return Built(model, "y", mean)


def graded():
    random = np.random.default_rng(10)
    x, new, cuts = random.normal(size=(400, 2)), random.normal(size=(50, 2)), np.array([-1.0, 0.5, 1.5])

    def probabilities(x):
        below = expit(np.column_stack([cuts - (x @ [1.0, -0.8])[:, None], np.full(len(x), np.inf)]))
        return np.diff(below, axis=1, prepend=0.0)

    y = np.array([random.choice(4, p=p) for p in probabilities(x)])
    return x, y, new, probabilities(new)


@example("GLM-ordinal-regression")
def ordered_logit():
    """Ordered outcomes with ordered cut points, new rows."""
    x, y, new, truth = graded()
    with pm.Model() as model:
        inputs = pm.Data("x", x, dims=("row", "column"))
        beta = pm.Normal("beta", 0, 1, shape=2)
        ordered = pm.distributions.transforms.ordered
        cuts = pm.Normal("cuts", 0, 3, transform=ordered, shape=3, initval=np.arange(3) - 1.0)
        pm.OrderedLogistic("y", eta=inputs @ beta, cutpoints=cuts, compute_p=False, observed=y, dims="row")
    return Built(model, "y", truth, {"x": new})


@example("GLM-ordinal-regression")
def ordered_probit():
    """The same by a probit, its cut points from 0 to 1 in the steps of a Dirichlet, new rows."""
    x, y, new, truth = graded()
    with pm.Model() as model:
        inputs = pm.Data("x", x, dims=("row", "column"))
        beta, sigma = pm.Normal("beta", 0, 1, shape=2), pm.Exponential("sigma", 1)
        steps = pm.Dirichlet("steps", np.ones(3))
        cuts = pt.concatenate([[0.0], pt.cumsum(steps)[:2]])
        eta, level = inputs @ beta, pm.Normal("level")
        pm.OrderedProbit("y", eta=level + eta, cutpoints=cuts, sigma=sigma, compute_p=False, observed=y, dims="row")
    return Built(model, "y", truth, {"x": new})


@example("GLM-ordinal-features")
def ordered_feature():
    """A feature whose grades raise the outcome in the steps of a Dirichlet, new rows."""
    random = np.random.default_rng(11)
    gains = np.array([0.0, 0.1, 0.5, 0.6, 1.0])
    grade, x = random.integers(0, 5, 300), random.normal(size=300)
    y = 0.5 * x + 2 * gains[grade] + 0.3 * random.normal(size=300)
    with pm.Model(coords={"step": np.arange(4)}) as model:
        at, of = pm.Data("x", x, dims="row"), pm.Data("grade", grade, dims="row")
        b, top, sigma = pm.Normal("b"), pm.Normal("top", 0, 2), pm.InverseGamma("sigma", 11, 10)
        steps = pm.Dirichlet("steps", np.ones(4), dims="step")
        gain = pt.concatenate([[0.0], pt.cumsum(steps)])
        pm.Normal("y", b * at + top * gain[of], sigma, observed=y, dims="row")
    new = {"x": X_NEW, "grade": np.arange(25) % 5}
    return Built(model, "y", 0.5 * X_NEW + 2 * gains[new["grade"]], new)


@example("GLM-ordinal-features")
def categorical_feature():
    """The same with a free effect per grade that sum to zero, new rows."""
    random = np.random.default_rng(12)
    effect = np.array([-1.0, 0.0, 0.2, 0.8])
    grade = random.integers(0, 4, 300)
    y = effect[grade] + 0.3 * random.normal(size=300)
    with pm.Model(coords={"grade": list("abcd")}) as model:
        of = pm.Data("at", grade, dims="row")
        level, by_grade = pm.Normal("level"), pm.ZeroSumNormal("by_grade", 2, dims="grade")
        pm.Normal("y", level + by_grade[of], pm.HalfNormal("sigma", 1), observed=y, dims="row")
    return Built(model, "y", effect[np.arange(8) % 4], {"at": np.arange(8) % 4})


@example("GLM-ZeroSumNormal")
def zero_sum_interaction():
    """Two factors and their interaction, each summing to zero, new rows."""
    random = np.random.default_rng(13)
    cells = np.array([[1.0, 0.0, -1.0], [0.5, 1.5, 0.0]])
    a, b = random.integers(0, 2, 300), random.integers(0, 3, 300)
    y = cells[a, b] + 0.3 * random.normal(size=300)
    with pm.Model(coords={"a": range(2), "b": range(3)}) as model:
        at_a, at_b = pm.Data("at_a", a, dims="row"), pm.Data("at_b", b, dims="row")
        level = pm.Normal("level")
        one, other = pm.ZeroSumNormal("one", dims="a"), pm.ZeroSumNormal("other", dims="b")
        both = pm.ZeroSumNormal("both", dims=("a", "b"), n_zerosum_axes=2)
        mu = level + one[at_a] + other[at_b] + both[at_a, at_b]
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1), observed=y, dims="row")
    grid = np.array([[i, j] for i in range(2) for j in range(3)])
    return Built(model, "y", cells.ravel(), {"at_a": grid[:, 0], "at_b": grid[:, 1]})
