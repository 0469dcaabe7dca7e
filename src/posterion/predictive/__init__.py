"""Posterior predictive: what a posterior says of new rows, in bounded memory, with its uncertainty taken apart."""

from posterion.predictive.files import SourcePrediction
from posterion.predictive.predict import predict
from posterion.predictive.prediction import Prediction

__all__ = ["Prediction", "SourcePrediction", "predict"]
