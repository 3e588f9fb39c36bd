"""Train a small PyTorch network on handwritten digits and write it as Fleet takes it: docs/pytorch.md.

Needs torch, litert-torch and scikit-learn, in an environment of its own.
"""

from pathlib import Path

import litert_torch
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(1)
digits = load_digits()
x = digits.images[..., np.newaxis].astype(np.float32)  # raw, NHWC: (1797, 8, 8, 1), values from 0 to 16
y = digits.target
order = np.random.default_rng(1).permutation(len(x))
train, validation, test = order[:1200], order[1200:1500], order[1500:]


def as_input(raw):
    """What Fleet makes of a sample (scale 1/16), in PyTorch's layout, NCHW."""
    return torch.from_numpy(raw / 16).permute(0, 3, 1, 2)


net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
)  # fmt: skip
optimiser = torch.optim.Adam(net.parameters(), 0.003)
for epoch in range(20):
    for batch in np.array_split(np.random.default_rng(epoch).permutation(train), 20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(as_input(x[batch])), torch.from_numpy(y[batch])).backward()
        optimiser.step()

whole = nn.Sequential(net, nn.Softmax(dim=1))  # devices want probabilities
whole.eval()  # batch norm and dropout as after the training
with torch.no_grad():
    answers = whole(as_input(x[test])).numpy()
print(f"PyTorch: {(answers.argmax(axis=1) == y[test]).mean():.2%} of {len(test)} test samples")

channels_last = litert_torch.to_channel_last_io(whole, args=[0])  # the file takes NHWC, as Fleet gives it
one = torch.zeros(1, 8, 8, 1)  # devices run one sample at a time
litert_torch.convert(channels_last, (one,)).export("digits.tflite")

np.savez("test.npz", x=x[test], y=y[test])
np.savez("answers.npz", answers=answers)
np.savez(
    "digits.npz",
    x_train=x[train], y_train=y[train],
    x_validation=x[validation], y_validation=y[validation],
    x_test=x[test], y_test=y[test],
)  # fmt: skip
Path("labels.txt").write_text("".join(f"{number}\n" for number in range(10)))
