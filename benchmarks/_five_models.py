"""Five models, each in PyMC, NumPyro and Stan, and by hand in JAX: the same data, priors and names in all four.

The tutorial's network is on real data; eight schools has its eight published rows. The radon data are simulated in the
shape of the Minnesota survey (919 houses in 85 counties of very different sizes), and so are the rows of the two
regressions, because what is compared is the three languages, not the world.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import nn
from jax import numpy as jnp
from jax.scipy import special, stats
from numpyro.distributions import constraints

import posterion as po


@dataclass(frozen=True)
class Case:
    """One model in every language.

    Parameters
    ----------
    name
        In words.
    data
        By name; scalars are structure.
    pymc
        Builds the PyMC model from the data.
    numpyro
        A model function that takes the data as keyword arguments.
    stan
        The program; takes the data and, as N, their number of rows.
    density
        Log density of the parameters (a dictionary) and the data, up to a constant.
    initial, supports
        Of `density`.
    compared
        Variables whose posteriors are compared across languages.
    halved
        How many priors are those of a half distribution. Neither `stan` nor `density` doubles them, as is usual there,
        which leaves log 2 out of the log density for each.
    """

    name: str
    data: Mapping[str, np.ndarray]
    pymc: Callable
    numpyro: Callable
    stan: str
    density: Callable
    initial: Mapping[str, np.ndarray | float]
    supports: Mapping[str, constraints.Constraint]
    compared: tuple[str, ...]
    halved: int = 0

    def by_hand(self):
        """The hand-written density as a target."""
        return po.log_density(self.density, initial=self.initial, data=dict(self.data), supports=dict(self.supports))

    def stan_target(self):
        """The compiled Stan program with the data and their number of rows."""
        return po.stan(self.stan, {**self.data, "N": len(next(iter(self.data.values())))})


# ---- the tutorial's network
def _network() -> Case:
    from _network import initial_values, pymc_model, split

    halves = split()
    data = {"x": halves.X_train, "y": halves.Y_train.astype(int)}

    def in_numpyro(x, y):
        weights = {
            n: numpyro.sample(n, dist.Normal(0, 1).expand(w.shape).to_event()) for n, w in initial_values().items()
        }
        hidden = jnp.tanh(jnp.tanh(x @ weights["w_in_1"]) @ weights["w_1_2"])
        with numpyro.plate("row", len(x)):
            numpyro.sample("out", dist.Bernoulli(logits=hidden @ weights["w_2_out"]), obs=y)

    def density(params, data):
        # Rows on the last axis: what somebody writes who knows how the processor likes it.
        hidden = jnp.tanh(params["w_1_2"].T @ jnp.tanh(params["w_in_1"].T @ data["x"].T))
        logits = params["w_2_out"] @ hidden
        prior = sum(jnp.sum(stats.norm.logpdf(w)) for w in params.values())
        return prior + jnp.sum(data["y"] * logits - nn.softplus(logits))

    program = """
    data { int N; matrix[N, 2] x; array[N] int<lower=0, upper=1> y; }
    parameters { matrix[2, 5] w_in_1; matrix[5, 5] w_1_2; vector[5] w_2_out; }
    model {
      to_vector(w_in_1) ~ std_normal(); to_vector(w_1_2) ~ std_normal(); w_2_out ~ std_normal();
      y ~ bernoulli_logit(tanh(tanh(x * w_in_1) * w_1_2) * w_2_out);
    }
    """
    return Case(
        name="tutorial's network, 284 rows, 40 weights",
        data=data,
        pymc=lambda: pymc_model(halves),
        numpyro=in_numpyro,
        stan=program,
        density=density,
        initial=initial_values(),
        supports={},
        compared=(),  # weights can be exchanged: only the evidence is compared
    )


# ---- eight schools
def _schools() -> Case:
    data = {
        "y": np.array([28.0, 8, -3, 7, -1, 1, 18, 12]),
        "sigma": np.array([15.0, 10, 16, 11, 9, 11, 10, 18]),
    }

    def in_pymc():
        import pymc as pm

        with pm.Model() as model:
            mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
            eta = pm.Normal("eta", 0, 1, shape=8)
            pm.Normal("obs", mu + tau * eta, data["sigma"], observed=data["y"])
        return model

    def in_numpyro(y, sigma):
        mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
        eta = numpyro.sample("eta", dist.Normal(0, 1).expand((8,)).to_event(1))
        with numpyro.plate("school", len(y)):
            numpyro.sample("obs", dist.Normal(mu + tau * eta, sigma), obs=y)

    def density(params, data):
        expected = params["mu"] + params["tau"] * params["eta"]
        prior = stats.norm.logpdf(params["mu"], 0, 5) + stats.cauchy.logpdf(params["tau"], 0, 5)
        prior += jnp.sum(stats.norm.logpdf(params["eta"]))
        return prior + jnp.sum(stats.norm.logpdf(data["y"], expected, data["sigma"]))

    program = """
    data { int N; vector[N] y; vector<lower=0>[N] sigma; }
    parameters { real mu; real<lower=0> tau; vector[N] eta; }
    model { mu ~ normal(0, 5); tau ~ cauchy(0, 5); eta ~ std_normal(); y ~ normal(mu + tau * eta, sigma); }
    """
    return Case(
        name="eight schools, non-centred",
        data=data,
        pymc=in_pymc,
        numpyro=in_numpyro,
        stan=program,
        density=density,
        initial={"mu": 0.0, "tau": 1.0, "eta": np.zeros(8)},
        supports={"tau": constraints.positive},
        compared=("mu", "tau", "eta"),
        halved=1,
    )


# ---- radon
def _radon() -> Case:
    random = np.random.default_rng(0)
    share = random.dirichlet(np.full(85, 0.6))
    county = np.concatenate([np.arange(85), random.choice(85, 919 - 85, p=share)])
    floor = (random.random(919) < 0.17).astype(float)
    level = random.normal(1.5, 0.35, 85)
    data = {"county": county, "floor": floor, "y": level[county] - 0.65 * floor + random.normal(0, 0.75, 919)}

    def in_pymc():
        import pymc as pm

        with pm.Model() as model:
            mu, tau, slope = pm.Normal("mu", 0, 2), pm.HalfNormal("tau", 1), pm.Normal("slope", 0, 1)
            eta, sigma = pm.Normal("eta", 0, 1, shape=85), pm.HalfNormal("sigma", 1)
            expected = mu + tau * eta[data["county"]] + slope * data["floor"]
            pm.Normal("obs", expected, sigma, observed=data["y"])
        return model

    def in_numpyro(county, floor, y):
        mu, tau = numpyro.sample("mu", dist.Normal(0, 2)), numpyro.sample("tau", dist.HalfNormal(1))
        slope, sigma = numpyro.sample("slope", dist.Normal(0, 1)), numpyro.sample("sigma", dist.HalfNormal(1))
        eta = numpyro.sample("eta", dist.Normal(0, 1).expand((85,)).to_event(1))
        with numpyro.plate("house", len(y)):
            numpyro.sample("obs", dist.Normal(mu + tau * eta[county] + slope * floor, sigma), obs=y)

    def density(params, data):
        expected = params["mu"] + params["tau"] * params["eta"][data["county"]] + params["slope"] * data["floor"]
        prior = stats.norm.logpdf(params["mu"], 0, 2) + stats.norm.logpdf(params["slope"])
        prior += stats.norm.logpdf(params["tau"]) + stats.norm.logpdf(params["sigma"])
        prior += jnp.sum(stats.norm.logpdf(params["eta"]))
        return prior + jnp.sum(stats.norm.logpdf(data["y"], expected, params["sigma"]))

    program = """
    data { int N; array[N] int county; vector[N] floor; vector[N] y; }
    transformed data { array[N] int place; for (n in 1:N) place[n] = county[n] + 1; }
    parameters { real mu; real<lower=0> tau; real slope; real<lower=0> sigma; vector[85] eta; }
    model {
      mu ~ normal(0, 2); tau ~ normal(0, 1); slope ~ normal(0, 1); sigma ~ normal(0, 1); eta ~ std_normal();
      y ~ normal(mu + tau * eta[place] + slope * floor, sigma);
    }
    """
    return Case(
        name="radon, 919 houses in 85 counties",
        data=data,
        pymc=in_pymc,
        numpyro=in_numpyro,
        stan=program,
        density=density,
        initial={"mu": 0.0, "tau": 1.0, "slope": 0.0, "sigma": 1.0, "eta": np.zeros(85)},
        supports={"tau": constraints.positive, "sigma": constraints.positive},
        compared=("mu", "tau", "slope", "sigma"),
        halved=2,
    )


# ---- a Student-t regression
def _student() -> Case:
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 3))
    data = {"x": x, "y": 0.5 + x @ [1.0, -0.5, 0.25] + 0.4 * random.standard_t(3, 200)}

    def in_pymc():
        import pymc as pm

        with pm.Model() as model:
            level, slope = pm.Normal("level", 0, 2), pm.Normal("slope", 0, 2, shape=3)
            sigma, nu = pm.HalfNormal("sigma", 1), pm.Gamma("nu", 2, 0.1)
            pm.StudentT("obs", nu=nu, mu=level + pm.math.dot(data["x"], slope), sigma=sigma, observed=data["y"])
        return model

    def in_numpyro(x, y):
        level, sigma = numpyro.sample("level", dist.Normal(0, 2)), numpyro.sample("sigma", dist.HalfNormal(1))
        slope = numpyro.sample("slope", dist.Normal(0, 2).expand((3,)).to_event(1))
        nu = numpyro.sample("nu", dist.Gamma(2, 0.1))
        with numpyro.plate("row", len(y)):
            numpyro.sample("obs", dist.StudentT(nu, level + x @ slope, sigma), obs=y)

    def density(params, data):
        expected = params["level"] + data["x"] @ params["slope"]
        prior = stats.norm.logpdf(params["level"], 0, 2) + jnp.sum(stats.norm.logpdf(params["slope"], 0, 2))
        prior += stats.norm.logpdf(params["sigma"]) + stats.gamma.logpdf(params["nu"], 2, scale=10)
        return prior + jnp.sum(stats.t.logpdf(data["y"], params["nu"], expected, params["sigma"]))

    program = """
    data { int N; matrix[N, 3] x; vector[N] y; }
    parameters { real level; vector[3] slope; real<lower=0> sigma; real<lower=0> nu; }
    model {
      level ~ normal(0, 2); slope ~ normal(0, 2); sigma ~ normal(0, 1); nu ~ gamma(2, 0.1);
      y ~ student_t(nu, level + x * slope, sigma);
    }
    """
    return Case(
        name="Student-t regression, 200 rows",
        data=data,
        pymc=in_pymc,
        numpyro=in_numpyro,
        stan=program,
        density=density,
        initial={"level": 0.0, "slope": np.zeros(3), "sigma": 1.0, "nu": 10.0},
        supports={"sigma": constraints.positive, "nu": constraints.positive},
        compared=("level", "slope", "sigma", "nu"),
        halved=1,
    )


# ---- an ordered logit
def _ordered() -> Case:
    random = np.random.default_rng(2)
    x = random.normal(size=(400, 2))
    eta = x @ [1.0, -0.7]
    true_cuts = np.array([-1.0, 0.2, 1.5])
    y = np.sum(random.random(400)[:, None] > special.expit(true_cuts - eta[:, None]), axis=1)
    data = {"x": x, "y": np.asarray(y, int)}
    start = np.array([-1.0, 0.0, 1.0])

    def in_pymc():
        import pymc as pm

        with pm.Model() as model:
            slope = pm.Normal("slope", 0, 2, shape=2)
            cuts = pm.Normal("cuts", 0, 3, shape=3, transform=pm.distributions.transforms.ordered, initval=start)
            pm.OrderedLogistic(
                "obs", eta=pm.math.dot(data["x"], slope), cutpoints=cuts, compute_p=False, observed=data["y"]
            )
        return model

    def in_numpyro(x, y):
        slope = numpyro.sample("slope", dist.Normal(0, 2).expand((2,)).to_event(1))
        cuts = numpyro.sample("cuts", dist.ImproperUniform(constraints.ordered_vector, (), (3,)))
        numpyro.factor("prior of cuts", jnp.sum(stats.norm.logpdf(cuts, 0, 3)))
        with numpyro.plate("row", len(y)):
            numpyro.sample("obs", dist.OrderedLogistic(x @ slope, cuts), obs=y)

    def density(params, data):
        eta, cuts = data["x"] @ params["slope"], params["cuts"]
        below = nn.sigmoid(jnp.concatenate([cuts, jnp.array([jnp.inf])]) - eta[:, None])
        probability = jnp.diff(below, axis=1, prepend=0.0)
        prior = jnp.sum(stats.norm.logpdf(params["slope"], 0, 2)) + jnp.sum(stats.norm.logpdf(cuts, 0, 3))
        return prior + jnp.sum(jnp.log(jnp.take_along_axis(probability, data["y"][:, None], axis=1)))

    program = """
    data { int N; matrix[N, 2] x; array[N] int y; }
    transformed data { array[N] int label; for (n in 1:N) label[n] = y[n] + 1; }
    parameters { vector[2] slope; ordered[3] cuts; }
    model { slope ~ normal(0, 2); cuts ~ normal(0, 3); label ~ ordered_logistic(x * slope, cuts); }
    """
    return Case(
        name="ordered logit, 400 rows",
        data=data,
        pymc=in_pymc,
        numpyro=in_numpyro,
        stan=program,
        density=density,
        initial={"slope": np.zeros(2), "cuts": start},
        supports={"cuts": constraints.ordered_vector},
        compared=("slope", "cuts"),
    )


CASES: Mapping[str, Callable[[], Case]] = {
    "network": _network,
    "schools": _schools,
    "radon": _radon,
    "student": _student,
    "ordered": _ordered,
}
