"""The peers, each as a function from training data and test inputs to a predictive distribution of the test outcomes.

Regressors return log densities through a callable, so that mixtures are scored as mixtures. A peer that only predicts
points gets Gaussian noise whose scale is the root mean square of its 5-fold out-of-sample residuals, which is kinder
than training residuals.
"""

from collections.abc import Callable

import numpy as np
from scipy import special
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Density = Callable[[np.ndarray], np.ndarray]


def gaussian(mean, sd) -> tuple[np.ndarray, np.ndarray, Density]:
    return mean, sd, lambda y: -0.5 * np.log(2 * np.pi * sd**2) - 0.5 * ((y - mean) / sd) ** 2


def mixture(means, sds) -> tuple[np.ndarray, np.ndarray, Density]:
    """Of Gaussians, one row for each member."""
    mean = means.mean(0)
    sd = np.sqrt((sds**2).mean(0) + means.var(0))
    log = lambda y: -0.5 * np.log(2 * np.pi * sds**2) - 0.5 * ((y - means) / sds) ** 2
    return mean, sd, lambda y: special.logsumexp(log(y), axis=0) - np.log(len(means))


def posterion(x, y, new, seed):
    from posterion.estimators import BayesianMLPRegressor

    model = BayesianMLPRegressor(random_state=seed).fit(x, y)
    predictive = model._predictive(new)
    return predictive.mean(), predictive.std(), predictive.log_density, model.uncertainty(new)["epistemic"]


def posterion_linear(x, y, new, seed):
    from posterion.estimators import BayesianLinearRegression

    predictive = BayesianLinearRegression().fit(x, y)._predictive(new)
    return predictive.mean(), predictive.std(), predictive.log_density


def mean_and_sd(x, y, new, seed):
    return gaussian(np.full(len(new), y.mean()), np.full(len(new), y.std()))


def _point(make):
    def run(x, y, new, seed):
        model = make(seed)
        residual = y - cross_val_predict(model, x, y, cv=5)
        return gaussian(model.fit(x, y).predict(new), np.full(len(new), np.sqrt(np.mean(residual**2))))

    return run


def forest(x, y, new, seed):
    model = RandomForestRegressor(500, min_samples_leaf=2, oob_score=True, random_state=seed).fit(x, y)
    return gaussian(model.predict(new), np.full(len(new), np.sqrt(np.mean((y - model.oob_prediction_) ** 2))))


def gaussian_process(x, y, new, seed):
    if len(x) > 2000:
        return None
    scaler = StandardScaler().fit(x)
    kernel = ConstantKernel() * RBF(np.ones(x.shape[1])) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed).fit(scaler.transform(x), y)
    return gaussian(*model.predict(scaler.transform(new), return_std=True))


def deep_ensemble(x, y, new, seed, members=5):
    """Lakshminarayanan et al. (2017): 50 rectified units, mean and variance heads, 40 epochs, 5 members."""
    import _flax_peers as flax

    scaler, offset, scale = StandardScaler().fit(x), y.mean(), y.std()
    module = flax.Perceptron((50,), 2)
    out = []
    for k in range(members):
        params = flax.train(
            module,
            "heteroscedastic",
            scaler.transform(x),
            (y - offset) / scale,
            epochs=40,
            batch=32,
            seed=10 * seed + k,
        )
        out.append(flax.outputs(module, params, scaler.transform(new)))
    out = np.stack(out)
    return mixture(offset + scale * out[:, :, 0], scale * np.sqrt(np.logaddexp(0, out[:, :, 1]) + 1e-6))


def dropout(x, y, new, seed, draws=100):
    """Gal and Ghahramani (2016): 50 rectified units; rate and noise chosen on a fifth of the training rows."""
    import _flax_peers as flax

    scaler, offset, scale = StandardScaler().fit(x), y.mean(), y.std()
    xs, ys = scaler.transform(x), (y - offset) / scale
    a, b, ya, yb = train_test_split(xs, ys, test_size=0.2, random_state=seed)
    best = None
    for rate in (0.005, 0.05):
        module = flax.Perceptron((50,), 1, rate)
        params = flax.train(module, "squares", a, ya, epochs=200, batch=32, seed=seed, learning_rate=0.003)
        f = flax.outputs(module, params, b, draws=draws)[:, :, 0]
        for noise in np.geomspace(0.03, 1, 16):
            score = mixture(f, np.full_like(f, noise))[2](yb).mean()
            if best is None or score > best[0]:
                best = (score, rate, noise)
    _, rate, noise = best
    module = flax.Perceptron((50,), 1, rate)
    params = flax.train(module, "squares", xs, ys, epochs=200, batch=32, seed=seed, learning_rate=0.003)
    f = flax.outputs(module, params, scaler.transform(new), draws=draws)[:, :, 0]
    return mixture(offset + scale * f, np.full_like(f, scale * noise))


def _lightgbm_regressor(seed):
    import lightgbm

    return lightgbm.LGBMRegressor(random_state=seed, verbose=-1, n_jobs=1)


REGRESSORS = {
    "Posterion": posterion,
    "Posterion linear": posterion_linear,
    "training mean and sd": mean_and_sd,
    "random forest": forest,
    "HistGradientBoosting": _point(lambda seed: HistGradientBoostingRegressor(random_state=seed)),
    "LightGBM": _point(_lightgbm_regressor),
    "MLP (scikit-learn)": _point(
        lambda seed: make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(50,), max_iter=1000, random_state=seed)
        )
    ),
    "Gaussian process": gaussian_process,
    "deep ensemble of 5": deep_ensemble,
    "MC dropout": dropout,
}


# ---- classes: probabilities of 0, 1, ...
def posterion_classes(x, y, new, seed):
    from posterion.estimators import BayesianMLPClassifier

    return BayesianMLPClassifier(random_state=seed).fit(x, y).predict_proba(new)


def posterion_logistic(x, y, new, seed):
    from posterion.estimators import BayesianLogisticRegression

    return BayesianLogisticRegression().fit(x, y).predict_proba(new)


def _sklearn(make):
    return lambda x, y, new, seed: make(seed).fit(x, y).predict_proba(new)


def _lightgbm_classifier(seed):
    import lightgbm

    return lightgbm.LGBMClassifier(random_state=seed, verbose=-1, n_jobs=1)


def deep_ensemble_classes(x, y, new, seed, members=5):
    import _flax_peers as flax

    scaler = StandardScaler().fit(x)
    module = flax.Perceptron((64, 64), int(y.max()) + 1)
    epochs = 40 if len(x) < 10_000 else 15
    out = []
    for k in range(members):
        params = flax.train(
            module, "classes", scaler.transform(x), y, epochs=epochs, batch=64, seed=10 * seed + k, learning_rate=0.002
        )
        out.append(special.softmax(flax.outputs(module, params, scaler.transform(new)), axis=1))
    return np.mean(out, axis=0)


def dropout_classes(x, y, new, seed, draws=50):
    import _flax_peers as flax

    scaler = StandardScaler().fit(x)
    module = flax.Perceptron((64, 64), int(y.max()) + 1, 0.2)
    epochs = 60 if len(x) < 10_000 else 15
    params = flax.train(
        module, "classes", scaler.transform(x), y, epochs=epochs, batch=64, seed=seed, learning_rate=0.002
    )
    f = flax.outputs(module, params, scaler.transform(new), draws=draws)
    return special.softmax(f, axis=2).mean(0)


def nuts_classes(x, y, new, seed):
    import _nuts_peer

    return _nuts_peer.nuts_classes(x, y, new, seed)


CLASSIFIERS = {
    "Posterion": posterion_classes,
    "Posterion logistic": posterion_logistic,
    "random forest": _sklearn(lambda seed: RandomForestClassifier(500, min_samples_leaf=2, random_state=seed)),
    "HistGradientBoosting": _sklearn(lambda seed: HistGradientBoostingClassifier(random_state=seed)),
    "HistGradientBoosting, calibrated": _sklearn(
        lambda seed: CalibratedClassifierCV(HistGradientBoostingClassifier(random_state=seed), cv=5, method="sigmoid")
    ),
    "LightGBM": _sklearn(_lightgbm_classifier),
    "MLP (scikit-learn)": _sklearn(
        lambda seed: make_pipeline(
            StandardScaler(), MLPClassifier(hidden_layer_sizes=(64,), early_stopping=True, random_state=seed)
        )
    ),
    "deep ensemble of 5": deep_ensemble_classes,
    "MC dropout": dropout_classes,
    "NUTS": nuts_classes,
}
