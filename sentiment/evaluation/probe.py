"""The probe that judges an adaptation by the task: a logistic regression on the features of a frozen encoder."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

STRENGTH = 0.01  # inverse regularisation; the same always, since choosing it would take more labels
MAX_ITERATIONS, TOLERANCE = 300, 1e-3


def compute_probe_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    validation_features: np.ndarray,
    validation_labels: np.ndarray,
) -> float:
    """The accuracy on validation rows of a logistic regression fitted on training rows, of standardised features.

    >>> rows, labels = np.array([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [0.9, 0.0]]), np.array([0, 0, 1, 1])
    >>> compute_probe_accuracy(rows, labels, rows, labels)
    1.0
    """
    scaler = StandardScaler().fit(train_features)
    model = LogisticRegression(C=STRENGTH, max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that has not converged is a probe all the same
        model.fit(scaler.transform(train_features), train_labels)
    return float((model.predict(scaler.transform(validation_features)) == validation_labels).mean())
