"""What can go wrong, by kind. Every message says what was found, what was expected and what to do."""


class PosterionError(Exception):
    """The common ancestor: catch this to catch everything Posterion raises on purpose."""


class UnsupportedModelError(PosterionError, TypeError):
    """The model has something no front end can take over correctly; the message names it."""


class DataError(PosterionError, ValueError):
    """Data that do not fit the model: names, shapes, types, missing or infinite values."""


class OptionError(PosterionError, ValueError):
    """An argument outside what it can mean, or a combination that means nothing."""


class NonFiniteError(PosterionError, FloatingPointError):
    """A log density or gradient that is not a finite number where one is needed."""


class PosteriorFileError(PosterionError, ValueError):
    """A file that is not a saved posterior, is damaged, or was written by a newer version."""


class CheckpointError(PosterionError, ValueError):
    """A folder of checkpoints that cannot be used: of another fit, in use, damaged, or not writable."""


class CheckpointWarning(UserWarning):
    """A checkpoint that could not be written or read; the fit goes on and nothing is lost but time."""


class MissingExtraError(PosterionError, ImportError):
    """An optional package is needed and not installed; the message names the extra."""


class DegenerateError(PosterionError, ValueError):
    """A posterior that does not fall off in some direction, where a method needs that it does; the message names it."""


NOTHING_OBSERVED = (
    "the model says nothing of how outcomes scatter, so held-out ones cannot be scored; po.log_density takes "
    "predict_variance=... or simulate=... for it"
)
"""What an `OptionError` says where held-out rows were given to a model that observes nothing by name."""
