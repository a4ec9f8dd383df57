"""Ringfort's networks in plain PyTorch, with the parameter names of Ringfort's checkpoints."""

import json

import torch
from torch import nn
from torch.nn import functional as F

MOMENTUM = 0.1  # of batch norm's running statistics


class Normalized(nn.Module):
    """Pixels in [0, 1] go in; normalisation is the first layer, as in Ringfort."""

    def __init__(self, channels, mean=(), std=()):
        super().__init__()
        mean, std = mean or [0.0] * channels, std or [1.0] * channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x):
        return self.body((x - self.mean) / self.std)


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, raw_shortcut):
        super().__init__()
        self.raw_shortcut = raw_shortcut
        self.bn1 = nn.BatchNorm2d(inputs, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=MOMENTUM)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        shortcut = x
        if hasattr(self, "shortcut"):
            shortcut = self.shortcut(x if self.raw_shortcut else activated)
        return self.conv2(F.relu(self.bn2(self.conv1(activated)))) + shortcut


class PreActResNet18(Normalized):
    def __init__(self, width=64, classes=10, channels=3, mean=(), std=(), raw_shortcut=False):
        super().__init__(channels, mean, std)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        inputs = width
        for stage in range(4):
            outputs, stride = width << stage, 1 if stage == 0 else 2
            blocks = [PreActBlock(inputs, outputs, stride, raw_shortcut),
                      PreActBlock(outputs, outputs, 1, raw_shortcut)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            inputs = outputs
        self.bn = nn.BatchNorm2d(inputs, momentum=MOMENTUM)
        self.linear = nn.Linear(inputs, classes)

    def body(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(F.relu(self.bn(x)).mean((2, 3)))


class CnnSmall(Normalized):
    def __init__(self, width=16, classes=10, height=28, image_width=28, channels=1, mean=(),
                 std=()):
        super().__init__(channels, mean, std)
        pixels = ((height + 3) // 4) * ((image_width + 3) // 4)
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1)
        self.fc1 = nn.Linear(pixels * 4 * width, 8 * width)
        self.fc2 = nn.Linear(8 * width, classes)

    def body(self, x):
        x = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(x))))))
        x = x.permute(0, 2, 3, 1).flatten(1)  # Ringfort flattens channels last
        return self.fc2(F.relu(self.fc1(x)))


def make_model(spec):
    """spec: a dict as in the metadata "ringfort.model" of a checkpoint."""
    common = {key: spec[key] for key in ("width", "classes", "channels", "mean", "std")}
    if spec["name"] == "cnn_small":
        return CnnSmall(height=spec["height"], image_width=spec["image_width"], **common)
    raw = {"preact_resnet18": False, "preact_resnet18_raw": True}[spec["name"]]
    return PreActResNet18(raw_shortcut=raw, **common)


def ringfort_state(model):
    """Parameters and running statistics under the names of a Ringfort checkpoint."""
    return {name: value for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")}


def load_checkpoint(path):
    """The model of a Ringfort checkpoint, in float32."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        model = make_model(json.loads(file.metadata()["ringfort.model"]))
        weights = {name: file.get_tensor(name) for name in file.keys()}
    missing = model.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys, missing
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys), missing
    return model
