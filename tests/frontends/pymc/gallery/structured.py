"""The models of the gallery's chapter on generalized linear models: groups, times, choices, missing and cut values."""

import warnings

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy.special import softmax
from scipy.stats import norm, truncnorm

from tests.frontends.pymc.gallery.examples import Built, example


@example("GLM-hierarchical-binomial-model")
def rats():
    """Rates of 20 groups under a beta distribution whose own prior is a pm.Potential."""
    random = np.random.default_rng(0)
    rate, n = random.beta(4, 12, 20), random.integers(20, 60, 20)
    y = random.binomial(n, rate)
    with pm.Model() as model:
        ab = pm.HalfNormal("ab", sigma=10, shape=2)
        pm.Potential("prior of ab", -2.5 * pt.log(pt.sum(ab)))
        theta = pm.Beta("theta", ab[0], ab[1], shape=20)
        pm.Binomial("y", n=n, p=theta, observed=y)
    return Built(model, "y", y.astype(float))  # shrunk, not copied


# ---- radon, 12 counties
_RANDOM = np.random.default_rng(1)
COUNTY, FLOOR = _RANDOM.integers(0, 12, 400), (_RANDOM.random(400) < 0.3).astype(float)
URANIUM = _RANDOM.normal(0, 0.5, 12)
LEVEL = 1.4 + 0.7 * URANIUM + 0.2 * _RANDOM.normal(size=12)
SLOPE = -0.7 - 0.5 * (LEVEL - 1.4)
RADON = LEVEL[COUNTY] + SLOPE[COUNTY] * FLOOR + 0.4 * _RANDOM.normal(size=400)
NEW_COUNTY, NEW_FLOOR = np.arange(24) % 12, np.arange(24) // 12 * 1.0
HOUSES = {"county_idx": NEW_COUNTY, "floor": NEW_FLOOR}


def radon(expected, *, truth=None, new=None):
    """A model of the radon of houses, from an expectation given counties and floors."""
    with pm.Model(coords={"county": np.arange(12), "param": ["level", "slope"]}) as model:
        county, floor = pm.Data("county_idx", COUNTY, dims="house"), pm.Data("floor", FLOOR, dims="house")
        mu = expected(county, floor)
        pm.Normal("radon", mu, pm.Exponential("sigma", 1), observed=RADON, dims="house")
    truth = LEVEL[NEW_COUNTY] + SLOPE[NEW_COUNTY] * NEW_FLOOR if truth is None else truth
    return Built(model, "radon", truth, HOUSES if new is None else new)


@example("multilevel_modeling")
def radon_pooled():
    """Radon: one line for all counties, new rows."""
    average = LEVEL.mean() + SLOPE.mean() * NEW_FLOOR
    expected = lambda county, floor: pm.Normal("a", 0, 10) + pm.Normal("b", 0, 10) * floor
    return radon(expected, truth=average, new={"floor": NEW_FLOOR})


@example("GLM-hierarchical")
def radon_unpooled():
    """Radon: a line for each county, new rows."""
    return radon(
        lambda county, floor: (
            pm.Normal("a", 0, 10, dims="county")[county] + pm.Normal("b", 0, 10, dims="county")[county] * floor
        )
    )


@example("GLM-hierarchical")
def radon_centred():
    """Radon: partial pooling of levels and slopes, centred, new rows."""

    def expected(county, floor):
        a = pm.Normal("a", pm.Normal("mu_a", 0, 5), pm.HalfNormal("sigma_a", 5), dims="county")
        b = pm.Normal("b", pm.Normal("mu_b", 0, 5), pm.HalfNormal("sigma_b", 5), dims="county")
        return a[county] + b[county] * floor

    return radon(expected)


@example("GLM-hierarchical")
def radon_not_centred():
    """The same by offsets from the average, new rows."""

    def expected(county, floor):
        offset = pm.Normal("offset", dims="county")
        a = pm.Deterministic("a", pm.Normal("mu_a", 0, 5) + pm.HalfNormal("sigma_a", 5) * offset, dims="county")
        return a[county] + pm.Normal("b", 0, 5) * floor

    return radon(expected, truth=LEVEL[NEW_COUNTY] + SLOPE.mean() * NEW_FLOOR)


@example("multilevel_modeling")
def radon_with_uranium():
    """Radon: levels that follow a measurement of the county, new rows."""

    def expected(county, floor):
        mean = pm.Normal("g0", 0, 10) + pm.Normal("g1", 0, 10) * URANIUM
        a = mean + pm.Exponential("sigma_a", 1) * pm.Normal("offset", dims="county")
        return a[county] + pm.Normal("b", 0, 1) * floor

    return radon(expected, truth=LEVEL[NEW_COUNTY] + SLOPE.mean() * NEW_FLOOR)


@example("multilevel_modeling")
def radon_correlated():
    """Radon: levels and slopes that go together, by pm.LKJCholeskyCov, new rows."""

    def expected(county, floor):
        chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.Exponential.dist(1.0, shape=2))
        offset = pm.Normal("offset", dims=("param", "county"))
        ab = pm.Normal("mean", 0, 5, dims="param")[:, None] + pt.dot(chol, offset)
        return ab[0][county] + ab[1][county] * floor

    return radon(expected)


# ---- Simpson's paradox: rising within five groups, falling across them
_RANDOM_S = np.random.default_rng(2)
GROUP = np.repeat(np.arange(5), 30)
X_IN_GROUP = GROUP + _RANDOM_S.normal(0, 0.6, 150)
ACROSS = 3.0 - 2.0 * np.arange(5)
Y_IN_GROUP = ACROSS[GROUP] + 0.8 * (X_IN_GROUP - GROUP) + 0.3 * _RANDOM_S.normal(size=150)


@example("GLM-simpsons-paradox")
def simpson_unpooled():
    """Five groups, each with a line of its own, new rows."""
    with pm.Model(coords={"group": range(5)}) as model:
        g, x = pm.Data("g", GROUP, dims="row"), pm.Data("x", X_IN_GROUP, dims="row")
        level, slope = pm.Normal("level", 0, 5, dims="group"), pm.Normal("slope", 0, 2, dims="group")
        mu = pm.Deterministic("mu", level[g] + slope[g] * x, dims="row")
        pm.Normal("y", mu, pm.Gamma("sigma", 2, 2), observed=Y_IN_GROUP, dims="row")
    new = np.arange(10) % 5
    return Built(model, "y", ACROSS[new] + 0.8 * 0.5, {"g": new, "x": new + 0.5})


@example("GLM-simpsons-paradox")
def simpson_partly_pooled():
    """The same with levels and slopes from a common distribution, new rows."""
    with pm.Model(coords={"group": range(5)}) as model:
        g, x = pm.Data("g", GROUP, dims="row"), pm.Data("x", X_IN_GROUP, dims="row")
        level = pm.Normal("level", pm.Normal("mu_level", 0, 3), pm.Gamma("sd_level", 2, 2), dims="group")
        slope = pm.Normal("slope", pm.Normal("mu_slope"), pm.Gamma("sd_slope", 5, 10), dims="group")
        pm.Normal("y", level[g] + slope[g] * x, pm.Gamma("sigma", 2, 2), observed=Y_IN_GROUP, dims="row")
    new = np.arange(10) % 5
    return Built(model, "y", ACROSS[new] + 0.8 * 0.5, {"g": new, "x": new + 0.5})


@example("GLM-rolling-regression")
def rolling():
    """Level and slope that walk from interval to interval, arrays in the formula."""
    random = np.random.default_rng(3)
    x, interval = random.normal(size=200), np.repeat(np.arange(10), 20)
    slope = np.linspace(-1, 1, 10)
    mean = 0.5 + slope[interval] * x
    y = mean + 0.2 * random.normal(size=200)
    with pm.Model(coords={"interval": range(10)}) as model:
        start = pm.Normal.dist(0, 1)
        step_a, step_b = pm.Exponential("step_a", 10.0), pm.Exponential("step_b", 5.0)
        alpha = pm.GaussianRandomWalk("alpha", sigma=step_a, init_dist=start, dims="interval")
        beta = pm.GaussianRandomWalk("beta", sigma=step_b, init_dist=start, dims="interval")
        pm.Normal("y", alpha[interval] + beta[interval] * x, pm.HalfNormal("sigma", 0.5), observed=y)
    return Built(model, "y", mean)


# ---- cut outcomes
def cut(how):
    """A steep line of which only -1 to 1 is seen: rows outside are dropped, or moved to the border."""
    random = np.random.default_rng(4)
    x = random.uniform(-2, 2, 400)
    y = x + 0.4 * random.normal(size=400)
    if how == "dropped":
        seen = np.abs(y) <= 1
        return x[seen], y[seen]
    return x, np.clip(y, -1, 1)


@example("GLM-truncated-censored-regression")
def truncated():
    """Rows outside of a window were dropped: pm.Truncated."""
    x, y = cut("dropped")
    with pm.Model() as model:
        slope, level, sigma = pm.Normal("slope"), pm.Normal("level"), pm.HalfNormal("sigma", 1)
        pm.Truncated("y", pm.Normal.dist(slope * x + level, sigma), lower=-1, upper=1, observed=y)
    return Built(model, "y", truncnorm.mean((-1 - x) / 0.4, (1 - x) / 0.4, x, 0.4), means={"slope": (1.0, 0.2)})


@example("GLM-truncated-censored-regression")
def censored():
    """Values outside of a window were moved to its border: pm.Censored, new rows."""
    x, y = cut("moved")
    with pm.Model() as model:
        at = pm.Data("x", x, dims="row")
        slope, level, sigma = pm.Normal("slope"), pm.Normal("level"), pm.HalfNormal("sigma", 1)
        pm.Censored("y", pm.Normal.dist(slope * at + level, sigma), lower=-1, upper=1, observed=y, dims="row")
    new = np.linspace(-1.5, 1.5, 21)
    draws = new + 0.4 * norm.ppf((np.arange(999) + 0.5) / 999)[:, None]
    return Built(model, "y", np.clip(draws, -1, 1).mean(0), {"x": new})


@example("GLM-truncated-regression")
def truncated_normal():
    """The same window by pm.TruncatedNormal."""
    x, y = cut("dropped")
    with pm.Model() as model:
        slope, level, sigma = pm.Normal("slope"), pm.Normal("level"), pm.HalfNormal("sigma", 1)
        pm.TruncatedNormal("y", mu=slope * x + level, sigma=sigma, lower=-1, upper=1, observed=y)
    return Built(model, "y", truncnorm.mean((-1 - x) / 0.4, (1 - x) / 0.4, x, 0.4), means={"slope": (1.0, 0.2)})


# ---- missing covariates
def gaps():
    random = np.random.default_rng(5)
    x = random.normal(size=(150, 2))
    y = 1 + x @ [1.0, -0.5] + 0.3 * random.normal(size=150)
    return x, y, np.ma.masked_array(x, random.random((150, 2)) < 0.15)


@example("GLM-missing-values-in-covariates")
def complete_covariates():
    """All covariates known, new rows."""
    x, y, _ = gaps()
    new = np.random.default_rng(6).normal(size=(20, 2))
    with pm.Model(coords={"column": ["a", "b"]}) as model:
        inputs = pm.Data("x", x, dims=("row", "column"))
        spread = pm.Gamma("spread", 10, 10)
        beta, level = pm.Normal("beta", 0, spread, dims="column"), pm.Normal("level")
        pm.Normal("y", level + pt.dot(inputs, beta), pm.Gamma("sigma", 50, 50), observed=y, dims="row")
    return Built(model, "y", 1 + new @ [1.0, -0.5], {"x": new})


@example("GLM-missing-values-in-covariates")
def imputed_covariates():
    """Some covariates missing, imputed by the model (a masked array)."""
    x, y, known = gaps()
    with warnings.catch_warnings(action="ignore"), pm.Model() as model:
        centre = pm.Normal("centre", shape=2)
        inputs = pm.Normal("x", centre, 1.0, observed=known)
        beta, level = pm.Normal("beta", 0, 1, shape=2), pm.Normal("level")
        pm.Normal("y", level + pt.dot(inputs, beta), pm.Gamma("sigma", 50, 50), observed=y)
    # Predictions would draw the known covariates anew, too, as PyMC's do: they are outcomes of the model.
    return Built(model, means={"beta": (np.array([1.0, -0.5]), 0.15), "level": (1.0, 0.15)})


# ---- choices among goods
PRICE, QUALITY = np.random.default_rng(7).normal(size=(2, 400, 3))
PERSON = np.arange(400) % 8
TASTE = np.array([0.0, 0.5, -0.5])


def chosen(utility):
    random, p = np.random.default_rng(8), softmax(utility, axis=1)
    return p, np.array([random.choice(3, p=row) for row in p])


@example("GLM-discrete-choice_models")
def choices():
    """Choices by the utilities of three goods, softmax, new rows."""
    p, y = chosen(TASTE - PRICE + 0.7 * QUALITY)
    with pm.Model(coords={"good": list("abc")}) as model:
        price = pm.Data("price", PRICE, dims=("choice", "good"))
        quality = pm.Data("quality", QUALITY, dims=("choice", "good"))
        by_price, by_quality = pm.Normal("by_price"), pm.Normal("by_quality")
        taste = pm.Normal("taste", shape=2)
        u = pt.concatenate([[0.0], taste]) + by_price * price + by_quality * quality
        pm.Categorical("chosen", p=pm.Deterministic("p", pm.math.softmax(u, axis=1)), observed=y, dims="choice")
    return Built(model, "chosen", p[:50], {"price": PRICE[:50], "quality": QUALITY[:50]})


@example("GLM-discrete-choice_models")
def correlated_choices():
    """The same with goods whose tastes go together, by pm.LKJCholeskyCov."""
    p, y = chosen(TASTE - PRICE + 0.7 * QUALITY)
    with pm.Model(coords={"good": list("abc")}) as model:
        by_price, by_quality = pm.Normal("by_price"), pm.Normal("by_quality")
        chol, *_ = pm.LKJCholeskyCov("chol", n=3, eta=5, sd_dist=pm.Exponential.dist(5, shape=3))
        taste = pm.MvNormal("taste", mu=np.zeros(3), chol=chol, dims="good")
        u = taste + by_price * PRICE + by_quality * QUALITY
        pm.Categorical("chosen", p=pm.math.softmax(u, axis=1), observed=y)
    return Built(model, "chosen", p)


@example("GLM-discrete-choice_models")
def choices_by_person():
    """The same with the tastes of eight people, new rows."""
    own = np.random.default_rng(9).normal(0, 0.7, (8, 3))
    p, y = chosen(TASTE + own[PERSON] - PRICE)
    with pm.Model(coords={"good": list("abc"), "person": range(8)}) as model:
        who = pm.Data("who", PERSON, dims="choice")
        price = pm.Data("price", PRICE, dims=("choice", "good"))
        spread = pm.Exponential("spread", 1)
        taste, by_price = pm.Normal("taste", dims="good"), pm.Normal("by_price")
        mine = pm.Normal("mine", 0, spread, dims=("person", "good"))
        u = taste + mine[who] + by_price * price
        pm.Categorical("chosen", p=pm.math.softmax(u, axis=1), observed=y, dims="choice")
    return Built(model, "chosen", p[:50], {"who": PERSON[:50], "price": PRICE[:50]})


@example("binning")
def bins():
    """Counts in bins of two surveys, from the normal distribution behind them."""
    random = np.random.default_rng(8)
    mu, sigma, edges = 1.0, 2.0, [np.array([-2.0, 0.0, 2.0]), np.array([-1.0, 1.0, 3.0, 5.0])]
    of = lambda e: np.diff(norm.cdf(np.r_[-np.inf, e, np.inf], mu, sigma))
    counts = [random.multinomial(1000, of(e)) for e in edges]
    with pm.Model() as model:
        centre, spread = pm.Normal("mu", 0, 5), pm.HalfNormal("sigma", 5)
        for name, e, count in zip("ab", edges, counts, strict=True):
            below = pt.exp(pm.logcdf(pm.Normal.dist(centre, spread), e))
            p = pt.concatenate([below[:1], pt.diff(below), 1 - below[-1:]])
            pm.Multinomial(name, n=1000, p=p, observed=count)
    return Built(model, "b", 1000 * of(edges[1]), means={"mu": (mu, 0.2), "sigma": (sigma, 0.2)})
