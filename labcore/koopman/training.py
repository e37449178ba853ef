"""Training of the classifier.

Cross-entropy on the logit; with a Koopman head also on the logit that K alone reaches from the
first state, and the error of K's whole trajectory (the published loss).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from labcore.koopman.data import Dataset
from labcore.koopman.settings import Training
from labcore.koopman.stgnn import DynGCRNN

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class History:
    """Mean training loss, and accuracy on the validation part, after each epoch."""

    loss: Float[np.ndarray, " e"]
    accuracy: Float[np.ndarray, " e"]


def fit(
    model: DynGCRNN,
    dataset: Dataset,
    training: Training | None = None,
    *,
    seed: int = 0,
    report: Report | None = None,
) -> History:
    """Train ``model`` in place on the training part; the last epoch is kept, not the best.

    The validation accuracy is only recorded: it chooses nothing. Everything runs where the model's
    parameters are.

    Raises:
        ValueError: no epochs.
    """
    how = training or Training()
    if how.epochs < 1 or how.batch < 1:
        raise ValueError(f"epochs={how.epochs} and batch={how.batch} must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(model.parameters(), lr=how.rate, weight_decay=how.weight_decay)
    steps = torch.optim.lr_scheduler.StepLR(adam, how.halve_every, gamma=0.5)
    losses, accuracy = [], []
    for epoch in range(how.epochs):
        order = dataset.train[torch.randperm(len(dataset.train), generator=generator).numpy()]
        total = 0.0
        model.train()
        for rows in np.split(order, range(how.batch, len(order), how.batch)):
            adam.zero_grad()
            loss = _loss(model, dataset, rows, how)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), how.clip)
            adam.step()
            total += float(loss.detach()) * len(rows)
        steps.step()
        losses.append(total / len(order))
        right = (predict(model, dataset, dataset.valid) > 0) == dataset.y[dataset.valid]
        accuracy.append(float(right.mean()))
        if report:
            report(epoch + 1, how.epochs, f"epoch {epoch + 1}, accuracy {accuracy[-1]:.2f}")
    model.eval()
    return History(np.array(losses), np.array(accuracy))


def predict(
    model: DynGCRNN, dataset: Dataset, rows: Int[np.ndarray, " r"], *, batch: int = 30
) -> Float[np.ndarray, " r"]:
    """Logits of some graphs."""
    return _forward(model, dataset, rows, batch, 0)


def states_of(
    model: DynGCRNN, dataset: Dataset, rows: Int[np.ndarray, " r"], *, batch: int = 30
) -> Float[np.ndarray, "r t n s"]:
    """Node states of some graphs, all steps."""
    return _forward(model, dataset, rows, batch, 1)


@torch.no_grad()
def _forward(
    model: DynGCRNN, dataset: Dataset, rows: np.ndarray, batch: int, which: int
) -> np.ndarray:
    parts = np.split(rows, range(batch, len(rows), batch))
    return np.concatenate(
        [model(*_given(model, dataset, part))[which].cpu().numpy() for part in parts]
    )


def _given(
    model: DynGCRNN, dataset: Dataset, rows: np.ndarray
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Flags (r, t, n, 1), contacts (r, t, n, n) and mask of some graphs, where the model is."""
    device = next(model.parameters()).device
    x = torch.from_numpy(dataset.x[rows])[..., None].to(device)
    A = torch.from_numpy(dataset.A[rows]).to(device).float()
    mask = None if dataset.mask is None else torch.from_numpy(dataset.mask[rows]).to(device)
    return x, A, mask


def _loss(model: DynGCRNN, dataset: Dataset, rows: np.ndarray, how: Training) -> Tensor:
    entropy = nn.functional.binary_cross_entropy_with_logits
    x, A, mask = _given(model, dataset, rows)
    y = torch.from_numpy(dataset.y[rows]).to(x)
    logits, states = model(x, A, mask)
    if model.K is None:
        return entropy(logits, y)
    path = [states[:, 0]]
    for _ in range(states.shape[1] - 1):
        path.append(path[-1] @ model.K.T)
    walked = torch.stack(path, dim=1)
    error = (walked - states).square().mean() + how.koopman_decay * model.K.square().sum()
    linear = entropy(model.logits(walked[:, -1], mask), y)
    return entropy(logits, y) + linear + how.koopman_weight * error


def curve_accuracy(dataset: Dataset, *, ridge: float = 1.0) -> float:
    """Validation accuracy of logistic regression on the curve of infected people: no contacts.

    Trained on the training part by Newton's method, with a ridge penalty on the weights.
    """
    curves = dataset.x.sum(axis=2) / dataset.x.shape[2]
    mean, sd = curves[dataset.train].mean(axis=0), curves[dataset.train].std(axis=0) + 1e-9
    design = np.concatenate([(curves - mean) / sd, np.ones((len(curves), 1))], axis=1)
    X, y = design[dataset.train].astype(np.float64), dataset.y[dataset.train]
    penalty = ridge * np.diag([1.0] * (X.shape[1] - 1) + [0.0])
    w = np.zeros(X.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(X @ w)))
        hessian = (X.T * (p * (1 - p))) @ X + penalty + 1e-9 * np.eye(len(w))
        step = np.linalg.solve(hessian, X.T @ (y - p) - penalty @ w)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    guess = design[dataset.valid] @ w > 0
    return float((guess == dataset.y[dataset.valid]).mean())
