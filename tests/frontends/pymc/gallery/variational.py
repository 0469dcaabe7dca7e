"""The models of the gallery's chapter on variational inference."""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.frontends.pymc.gallery.examples import Built, example
from tests.frontends.pymc.models import classes, neural_network


def _logistic(x):
    return 1 / (1 + np.exp(-x))


@example("bayesian_neural_network_advi")
def network():
    """Network of two hidden layers, new rows."""
    x, y = classes(150)
    new = classes(60, seed=5)[0]
    # The label follows the first column, with noise of half a standard deviation.
    return Built(neural_network(x, y), "out", _logistic(1.7 * new[:, 0] / 0.5), {"ann_input": new})


@example("bayesian_neural_network_advi")
def network_in_batches():
    """The same with pm.Minibatch, new rows."""
    x, y = classes(150)
    new = classes(60, seed=5)[0]
    truth = _logistic(1.7 * new[:, 0] / 0.5)
    return Built(neural_network(x, y, minibatch="data"), "out", truth, {"ann_input": new})


@example("variational_api_quickstart")
def gamma_rate():
    """Rate and shape of gamma data, with a deterministic mean."""
    y = np.random.default_rng(0).gamma(2.0, 0.5, 200)
    with pm.Model() as model:
        alpha = pm.Exponential("alpha", 0.1)
        beta = pm.Exponential("beta", 0.1)
        pm.Deterministic("mean", alpha / beta)
        pm.Gamma("y", alpha, beta, observed=y)
    # 4 * sd / sqrt(1000) and bias
    return Built(model, "y", np.full(200, y.mean()), within=0.06, means={"mean": (y.mean(), 0.06)})


@example("variational_api_quickstart, empirical-approx-overview", refused="its posterior is its prior")
def mixture_without_data():
    """A mixture of two normals and functions of it, no data."""
    with pm.Model() as model:
        x = pm.NormalMixture("x", w=[0.2, 0.8], mu=[-0.3, 0.5], sigma=[0.1, 0.1])
        pm.Deterministic("x2", x**2)
        pm.Deterministic("sin_x", pm.math.sin(x))
    return Built(model)


@example("variational_api_quickstart")
def softmax_regression():
    """Classes of flowers by a flat-prior softmax regression, new rows."""
    random = np.random.default_rng(1)
    weights, bias = np.array([[1.5, -1.0, 0.0], [0.0, 1.0, -1.5]]), np.array([0.0, 0.5, -0.5])
    x, new = random.normal(size=(300, 2)), random.normal(size=(40, 2))
    of = lambda x: np.exp(x @ weights + bias) / np.exp(x @ weights + bias).sum(1, keepdims=True)
    y = np.array([random.choice(3, p=p) for p in of(x)])
    with pm.Model() as model:
        inputs = pm.Data("x", x, dims=("flower", "measure"))
        slope = pm.Normal("slope", 0, 1e2, shape=(2, 3))
        level = pm.Normal("level", 0, 1e2, shape=3)
        p = pt.special.softmax(inputs @ slope + level, axis=-1)
        pm.Categorical("class", p=p, observed=y, dims="flower")
    return Built(model, "class", of(new), {"x": new})


@example("variational_api_quickstart")
def mean_in_batches():
    """Mean and spread of 20,000 rows of 4 columns, by pm.Minibatch."""
    random = np.random.default_rng(2)
    centre = np.array([0.5, -1.0, 2.0, 0.0])
    y = centre + random.normal(size=(20_000, 4))
    with pm.Model() as model:
        mu, sd = pm.Flat("mu", shape=4), pm.HalfNormal("sd", shape=4)
        pm.Normal("y", mu, sd, observed=pm.Minibatch(y, batch_size=100), total_size=len(y))
    means = {"mu": (y.mean(0), 0.03), "sd": (y.std(0), 0.03)}
    return Built(model, "y", np.broadcast_to(y.mean(0), y.shape), within=0.03, means=means)


@example("GLM-hierarchical-advi-minibatch")
def radon_in_batches():
    """Varying intercepts and slopes by county, in batches of rows and their county index."""
    random = np.random.default_rng(3)
    county, floor = random.integers(0, 10, 500), (random.random(500) < 0.3).astype(float)
    level = random.normal(1.5, 0.5, 10)
    truth = level[county] - 0.7 * floor
    y = truth + random.normal(0, 0.4, 500)
    with pm.Model(coords={"county": np.arange(10)}) as model:
        floors, counties, radon = pm.Minibatch(floor, county, y, batch_size=100)
        mu_a, sigma_a = pm.Normal("mu_a", 0, 10), pm.HalfCauchy("sigma_a", 1)
        mu_b, sigma_b = pm.Normal("mu_b", 0, 10), pm.HalfCauchy("sigma_b", 1)
        a, b = pm.Normal("a", mu_a, sigma_a, dims="county"), pm.Normal("b", mu_b, sigma_b, dims="county")
        noise = pm.HalfCauchy("noise", 1)
        pm.Normal("radon", a[counties] + b[counties] * floors, noise, observed=radon, total_size=len(y))
    return Built(model, "radon", truth)


@example("gaussian-mixture-model-advi")
def mixture_of_points():
    """Two clusters in the plane: pm.Mixture of multivariate normals."""
    random = np.random.default_rng(4)
    centres = np.array([[-1.0, 0.5], [1.5, -0.5]])
    points = centres[(random.random(400) < 0.6).astype(int)] + 0.2 * random.normal(size=(400, 2))
    with pm.Model() as model:
        means = [pm.MvNormal(f"mu_{k}", np.zeros(2), 4 * np.eye(2), initval=c) for k, c in enumerate([[-1, 0], [1, 0]])]
        share = pm.Dirichlet("share", np.array([1.0, 1.0]))
        parts = [pm.MvNormal.dist(mu, 0.04 * np.eye(2)) for mu in means]
        pm.Mixture("points", w=share, comp_dists=parts, observed=points)
    average = np.broadcast_to(0.4 * centres[0] + 0.6 * centres[1], points.shape)  # the shares: to 0.02 times 2.7
    means = {"mu_0": (centres[0], 0.1), "mu_1": (centres[1], 0.1)}
    return Built(model, "points", average, within=0.2, means=means)


@example("lda-advi-aevb")
def topics():
    """Latent Dirichlet allocation with the topic of each word summed out, one simplex per document."""
    random = np.random.default_rng(5)
    words = np.array([[0.4, 0.4, 0.2, 0, 0, 0], [0, 0, 0, 0.2, 0.4, 0.4]])
    mixed = random.dirichlet([0.3, 0.3], 40)
    counts = np.array([random.multinomial(60, share @ words) for share in mixed])
    with pm.Model() as model:
        theta = pm.Dirichlet("theta", 0.5 * np.ones(2), shape=(40, 2))
        beta = pm.Dirichlet("beta", np.ones(6), shape=(2, 6), initval=0.5 * words + 0.5 / 6)
        pm.Multinomial("counts", n=60, p=theta @ beta, observed=counts)
    return Built(model, "counts", 60 * mixed @ words)


@example("normalizing_flows_overview")
def curved_density():
    """A density given by a formula, pm.Potential over two coordinates: a curved ridge."""
    with pm.Model() as model:
        z = pm.Normal("z", 0, [1, 10], shape=2)
        pm.Potential("ridge", -0.5 * ((z[1] - 0.25 * z[0] ** 2) / 0.4) ** 2)
    return Built(model, means={"z": (np.array([0.0, 0.25]), 0.15)})  # the second is a quarter of a chi-square


@example("pathfinder")
def eight_schools():
    """Eight schools, with an offset per school."""
    y, sigma = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])
    with pm.Model(coords={"school": np.arange(8)}) as model:
        mu, tau = pm.Normal("mu", 0, 10), pm.HalfNormal("tau", 10)
        theta = pm.Normal("theta", 0, 1, dims="school")
        effect = pm.Deterministic("effect", mu + tau * theta, dims="school")
        pm.Normal("y", effect, sigma, observed=y, dims="school")
    # Given tau everything is normal; what is left is an integral over tau. Independent normals shrink too much: a fifth
    # of the posterior's standard deviation.
    taus, total, weighted = np.linspace(0.01, 50, 5000), 0.0, np.zeros(8)
    for tau in taus:
        variance = sigma**2 + tau**2
        precision = 0.01 + (1 / variance).sum()
        centre = (y / variance).sum() / precision
        weight = np.exp(-0.5 * (tau / 10) ** 2 - 0.5 * (y**2 / variance).sum() + 0.5 * precision * centre**2) / np.sqrt(
            precision * variance.prod()
        )
        total, weighted = total + weight, weighted + weight * (centre + tau**2 / variance * (y - centre))
    return Built(model, "y", weighted / total, within=2.0, means={"mu": (6.3, 1.5)})  # NUTS: 6.3


@example("streaming_dataset")
def clicks_in_batches():
    """Logistic regression on four streams of columns, pm.Minibatch; from files by po.fit(data=...)."""
    random = np.random.default_rng(6)
    x, truth = random.normal(size=(4000, 3)), np.array([-0.5, 1.0, -0.7, 0.3])
    p = _logistic(truth[0] + x @ truth[1:])
    y = (random.random(4000) < p).astype(float)
    with pm.Model() as model:
        b = pm.Normal("b", 0.0, 3.0, shape=4)
        x1, x2, x3, clicked = pm.Minibatch(*x.T.copy(), y, batch_size=200)
        logit = b[0] + b[1] * x1 + b[2] * x2 + b[3] * x3
        pm.Bernoulli("y", logit_p=logit, observed=clicked, total_size=len(y))
    return Built(model, "y", p)


@example("streaming_tick_data")
def hurdle_student_t():
    """Whether a price moves and by how much: a hurdle and Student-t tails as pm.CustomDist, effects by symbol."""
    random = np.random.default_rng(7)
    symbol, x = random.integers(0, 5, 800), random.normal(size=800)
    effect = random.normal(0, 0.5, 5)
    moves = random.random(800) < _logistic(0.8 + effect[symbol])
    y = np.where(moves, 1.0 + 0.5 * x + 0.3 * random.standard_t(4, 800), 0.0)

    def log_density(value, logit, mu, sigma, nu):
        moved = -pt.softplus(-logit) + pm.logp(pm.StudentT.dist(nu=nu, mu=mu, sigma=sigma), value)
        return pt.switch(pt.eq(value, 0), -pt.softplus(logit), moved)

    def draw(logit, mu, sigma, nu, rng=None, size=None):
        moved = rng.random(size) < _logistic(logit)
        return np.where(moved, mu + sigma * rng.standard_t(nu, size), 0.0)

    with pm.Model(coords={"symbol": np.arange(5)}) as model:
        at, slope = pm.Data("at", symbol, dims="event"), pm.Data("x", x, dims="event")
        spread = pm.HalfNormal("spread", 1)
        by_symbol = pm.Normal("by_symbol", 0, spread, dims="symbol")
        level, shift, theta = pm.Normal("level"), pm.Normal("shift"), pm.Normal("theta")
        scale = pm.HalfNormal("scale", 1)
        nu = pm.Deterministic("nu", 1 + pt.softplus(pm.Normal("eta", 3, 1)))
        parts = (level + by_symbol[at], shift + theta * slope, scale, nu)
        pm.CustomDist("y", *parts, logp=log_density, random=draw, observed=y, dims="event")
    # Its draws are NumPy's alone: predictions are those of pm.sample_posterior_predictive.
    return Built(model, means={"theta": (0.5, 0.06), "shift": (1.0, 0.06), "level": (0.8, 0.6)})
