"""A model in the format of MLflow: a score and a label for each row of a data frame."""

import numpy as np


class Risk:
    """What `mlflow.pyfunc` calls."""

    def predict(self, frame):
        """The score is NaN where an input is missing; a country of five letters is more than it can bear."""
        if (frame["country"].str.len() == 5).any():
            raise ValueError("a country has two letters")
        score = 1 / (1 + np.exp(frame["items"] - frame["amount"].astype(float) / 100))
        label = np.where(score > 0.5, "high", "low")
        return frame.assign(score=score, label=label)[["score", "label"]]


def _load_pyfunc(_path):
    return Risk()
