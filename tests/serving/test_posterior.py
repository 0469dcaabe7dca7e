"""A posterior behind the service: the same numbers as its own predictions, for labels, classes and numbers."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient

import posterion as po
from posterion.errors import OptionError
from posterion.serving import PosteriorModel, ServedModel, create_app

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"age": RNG.integers(20, 80, 120).astype(float), "size": RNG.normal(2, 1, 120)})
X = ((FRAME - FRAME.mean()) / FRAME.std()).to_numpy()


def prepare(frame):
    return ((frame - FRAME.mean()) / FRAME.std()).to_numpy()


def fitted(kind, outputs=None):
    shape = (2,) if outputs is None else (2, outputs)
    predict = {
        "binary": lambda p, d: jax.nn.sigmoid(d["x"] @ p["w"]),
        "categorical": lambda p, d: jax.nn.softmax(d["x"] @ p["w"]),
        "numeric": lambda p, d: d["x"] @ p["w"],
    }[kind]
    y = {"binary": X[:, 0] > 0, "categorical": np.digitize(X[:, 0], [-0.5, 0.5]), "numeric": X[:, 0]}[kind]

    def log_likelihood(p, d):
        mean = predict(p, d)
        if kind == "numeric":
            return -0.5 * (d["y"] - mean) ** 2
        two = jnp.stack([1 - mean, mean], axis=-1) if kind == "binary" else mean
        return jnp.log(jnp.take_along_axis(two, d["y"].astype(int)[:, None], axis=1)[:, 0])

    options = {"predict_variance": lambda p, d: jnp.ones(d["x"].shape[0])} if kind == "numeric" else {}
    if kind == "numeric":
        options["simulate"] = lambda key, p, d: predict(p, d) + jax.random.normal(key, d["x"].shape[:1])
    target = po.log_density(
        initial={"w": np.zeros(shape)},
        data={"x": X, "y": y.astype(float)},
        log_prior=lambda p: -0.5 * jnp.sum(p["w"] ** 2),
        log_likelihood=log_likelihood,
        predict_mean=predict,
        kind=kind,
        name="out",
        **options,
    )
    return po.fit(target, "laplace", progress=False, random_seed=1)


@pytest.fixture(scope="module")
def binary():
    return fitted("binary")


def test_labels_are_served_with_the_posteriors_own_probabilities(binary):
    training = FRAME.assign(finding=np.where(X[:, 0] > 0, "yes", "no"))
    model = PosteriorModel(
        binary, training, input="x", target="finding", classes=("no", "yes"), prepare=prepare, draws=400
    )
    assert isinstance(model, ServedModel)
    assert (model.task, list(model.classes)) == ("classification", ["no", "yes"])
    prediction = binary.predict({"x": X[:5]}, draws=400)
    answer = model.predict(FRAME.iloc[:5])
    np.testing.assert_allclose(answer.mean[:, 1], prediction.mean["out"])
    np.testing.assert_allclose(answer.epistemic, prediction.epistemic["out"])
    bounds = prediction.quantile([0.05, 0.95], of="mean")["out"]
    np.testing.assert_allclose([answer.low[:, 1], answer.high[:, 1]], bounds, atol=0.01)  # order statistics
    np.testing.assert_allclose(answer.low[:, 0], 1 - answer.high[:, 1])
    with TestClient(create_app(model)) as client:
        found = client.post("/predict", json={"rows": FRAME.iloc[:5].to_dict("records")}).json()["predictions"]
        np.testing.assert_allclose([one["probabilities"]["yes"] for one in found], answer.mean[:, 1], rtol=1e-6)
        assert client.post("/nearest", json={"row": FRAME.iloc[0].to_dict()}).json()["distance"][0] == 0


def test_a_loaded_posterior_is_served_alike(binary, tmp_path):
    binary.save(tmp_path / "one.posterion")
    options = {"input": "x", "target": "finding", "prepare": prepare}
    answers = [
        PosteriorModel(one, FRAME, **options).predict(FRAME.iloc[:3])
        for one in (binary, po.load(tmp_path / "one.posterion"))
    ]
    np.testing.assert_allclose(answers[0].mean, answers[1].mean)


def test_classes_and_numbers():
    three = PosteriorModel(fitted("categorical", 3), FRAME, input="x", target="y", classes="abc", prepare=prepare)
    answer = three.predict(FRAME.iloc[:4])
    assert answer.mean.shape == answer.low.shape == (4, 3) and list(three.classes) == ["a", "b", "c"]
    assert np.all((answer.low <= answer.mean) & (answer.mean <= answer.high))
    numbers = PosteriorModel(fitted("numeric"), FRAME, input="x", target="y", prepare=prepare)
    answer = numbers.predict(FRAME.iloc[:4])
    assert numbers.task == "regression" and list(numbers.classes) == []
    np.testing.assert_allclose(answer.aleatoric, 1.0)
    assert np.all((answer.high - answer.low > 2.5) & (answer.high - answer.low < 4.5))  # 3.29 and some ignorance


def test_what_cannot_be_served_is_refused(binary):
    with pytest.raises(OptionError, match=r"columns \['ward'\] hold text"):
        PosteriorModel(binary, FRAME.assign(ward="a"), input="x", target="y")
    named = PosteriorModel(binary, FRAME, input="x", target="y", classes=("a", "b", "c"), prepare=prepare)
    with pytest.raises(OptionError, match="2 classes; 3 names"):
        _ = named.classes
    with pytest.raises(OptionError, match="there are: out"):
        _ = PosteriorModel(binary, FRAME, input="x", target="y", variable="z", prepare=prepare).task


@pytest.mark.slow
def test_the_code_of_the_page_runs():
    page = Path(__file__).parents[2] / "docs/how-to/serving.md"
    names = {"__name__": "docs_example"}
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(page), "exec"), names)
    with TestClient(create_app(names["served"])) as client:
        example = re.search(r"'(\{\"rows\".*\})'", page.read_text())[1]
        found = client.post("/predict", content=example, headers={"Content-Type": "application/json"}).json()
        assert 0.0 < found["predictions"][0]["probabilities"]["malignant"] < 0.9
        assert client.post("/nearest", json={"row": client.get("/schema").json()["start"]}).json()["outcomes"]
