"""What speaks for and against an approximation, collected while it is judged."""

from dataclasses import dataclass, field

CLEARLY = 3.0
"""Standard errors, or nats, by which a difference of ELBOs counts as clear."""


@dataclass
class Findings:
    """Sentences for and against an approximation, the most telling first, and what to do.

    Parameters
    ----------
    against, favour
        What was found.
    advice
        What to do about it, by the name of the argument.
    """

    against: list[str] = field(default_factory=list)
    favour: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Those against first."""
        return (*self.against, *self.favour)
