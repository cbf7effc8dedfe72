"""What `POST /predict` answers, and how it is made from the votes of an ensemble."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from analysis.rows import disagreement
from trainable.predictions import TOP

if TYPE_CHECKING:
    from analysis.ensemble import Ensemble, Votes


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Guess(_Part):
    """A class, and how probable it is."""

    class_id: str
    words: str
    """What the class is called; empty where the data had no words."""
    confidence: float
    """Calibrated probability, 0 to 1."""


class Vote(Guess):
    """The first guess of one member alone."""

    trial: str
    weight: float
    """Of the member in the mean of the probabilities; all weights add up to 1."""


class Prediction(Guess):
    """The first guess of the ensemble, and how it came about."""

    top5: list[Guess]
    """The most probable classes, best first; fewer where there are fewer classes."""
    votes: list[Vote]
    """In the order of the ensemble's members."""
    disagreement: float
    """Weight of the members whose own first guess is another one than the ensemble's, 0 to 1."""


class PredictedImage(Prediction):
    """An image that was predicted."""

    file: str
    """Its name in the form; `body` for a raw body."""


class RefusedImage(_Part):
    """An image that couldn't be predicted."""

    file: str
    error: str
    """The reason, short."""


class Answer(_Part):
    """One entry for each image, in the order of the request."""

    images: list[PredictedImage | RefusedImage]


class NoImage(_Part):
    """Not one image of the request could be read."""

    error: str
    images: list[RefusedImage]


class Failure(_Part):
    """Why there is no answer."""

    error: str


class Health(_Part):
    """That the models are loaded and answer."""

    status: str = Field(examples=["ok"])


class Classified(NamedTuple):
    """What the model says about the images of one request."""

    answers: list[Prediction | str]
    """In the order of the images; a text is the reason why there is no prediction."""
    batches: list[int]
    """Sizes of the batches that an image of this request was the first of, so that each batch is told once."""


def predictions(ensemble: "Ensemble", votes: "Votes") -> list[Prediction]:
    """One prediction for each image of the votes."""
    best = np.argsort(-votes.probabilities, axis=1, kind="stable")[:, :TOP]
    firsts = votes.members.argmax(axis=2)
    shares = disagreement(votes, ensemble.weights)

    def guess(number: int, row: np.ndarray) -> dict[str, Any]:
        each = ensemble.classes[number]
        return {"class_id": each.id, "words": each.words, "confidence": _rounded(row[number])}

    def vote(place: int, image: int) -> Vote:
        member, weight = ensemble.members[place].trial, _rounded(ensemble.weights[place])
        return Vote(trial=member, weight=weight, **guess(firsts[place, image], votes.members[place, image]))

    return [
        Prediction(
            **guess(best[image, 0], row),
            top5=[Guess(**guess(number, row)) for number in best[image]],
            votes=[vote(place, image) for place in range(len(ensemble.members))],
            disagreement=_rounded(shares[image]),
        )
        for image, row in enumerate(votes.probabilities)
    ]


def named(names: Sequence[str], answers: Sequence[Prediction | str]) -> list[PredictedImage | RefusedImage]:
    """The answers with the names of the images that they are about."""
    return [
        RefusedImage(file=name, error=answer)
        if isinstance(answer, str)
        else PredictedImage.model_construct(file=name, **dict(answer))
        for name, answer in zip(names, answers, strict=True)
    ]


def _rounded(value: float) -> float:
    return round(float(value), 6)
