"""The side `frozen` of `benchmarks.transfer`: logistic regression on frozen features, as anybody writes it in an hour.

python -m benchmarks._equal_frozen TASK.json

The features of the first architecture's published weights, of whole images of train and select, standardised, into
scikit-learn's LogisticRegressionCV. It takes as long as it takes, whatever the seconds.
"""

import sys
import time

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._equal_task import Outcome, Task
from trainable.architectures import normalisation
from trainable.data.dataset import Dataset, open_dataset
from trainable.data.loader import in_order
from trainable.epoch import Normalise

BATCH = 64
PENALTIES = np.logspace(-5, 0, 8)
"""Inverse strengths that are tried."""


def main(task: Task) -> Outcome:
    """Compute the features, fit, and score on holdout."""
    began = time.time()
    torch.set_num_threads(task.cores)
    dataset = open_dataset(task.data, task.image_size, task.seed, progress=False)
    splits, labels = dataset.splits, dataset.cache.labels
    arch, weights = next(iter(task.weights.items()))
    model = timm.create_model(arch, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(weights)})
    rows = np.sort(np.concatenate([splits.train, splits.select]))
    folds = max(2, min(5, int(np.bincount(labels[rows]).min())))
    regression = LogisticRegressionCV(Cs=PENALTIES, cv=folds, max_iter=500, scoring="neg_log_loss")
    fitted = make_pipeline(StandardScaler(), regression).fit(features(model, dataset, rows), labels[rows])
    ready = time.time()
    probabilities = fitted.predict_proba(features(model, dataset, splits.holdout))
    truth = labels[splits.holdout]
    return Outcome(
        top1=float((probabilities.argmax(1) == truth).mean()),
        balanced=float(balanced_accuracy_score(truth, probabilities.argmax(1))),
        loss=float(log_loss(truth, probabilities, labels=range(dataset.num_classes))),
        holdout_images=len(truth),
        select_top1=None,
        ready=ready,
        evaluate_s=time.time() - ready,
        trials=1,
        epochs=1,
        updates=0,
        inside_s=ready - began,
        slots=1,
        about={"arch": arch},
    )


@torch.inference_mode()
def features(model: torch.nn.Module, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(rows, width)."""
    model.eval()
    normalise = Normalise(*normalisation(model))
    return torch.cat([model(normalise(images)) for images in in_order(dataset.cache, rows, BATCH)]).numpy()


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    main(given).write(given.output)
