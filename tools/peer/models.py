"""Ringfort's networks in plain PyTorch, with the state dicts of the definitions that they are known
by: the parameter names of Ringfort's checkpoints, and what `ringfort export --naming` knows beside."""

import json

import torch
from torch import nn
from torch.nn import functional as F

MOMENTUM, SILU_MOMENTUM = 0.1, 0.01  # of batch norm's running statistics


class Normalized(nn.Module):
    """Pixels in [0, 1] go in; normalisation is the first layer, as in Ringfort."""

    def __init__(self, channels, mean=(), std=(), kept=False):
        super().__init__()
        mean, std = mean or [0.0] * channels, std or [1.0] * channels
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=kept)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=kept)

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


class ResNetBlock(nn.Module):
    """Post-activation; kernels: of its convolutions, the stride lies in the first 3x3."""

    def __init__(self, inputs, channels, kernels, stride, shortcut):
        super().__init__()
        first_3x3, start = kernels.index(3), inputs
        for i, (kernel, outputs) in enumerate(zip(kernels, channels)):
            self.add_module(f"conv{i + 1}", nn.Conv2d(
                inputs, outputs, kernel, stride if i == first_3x3 else 1, kernel // 2, bias=False))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(outputs, momentum=MOMENTUM))
            inputs = outputs
        self.layers, self.shortcut_name = len(kernels), None
        if stride != 1 or start != inputs:
            self.shortcut_name = shortcut
            self.add_module(shortcut, nn.Sequential(
                nn.Conv2d(start, inputs, 1, stride, bias=False),
                nn.BatchNorm2d(inputs, momentum=MOMENTUM)))

    def forward(self, x):
        sum_ = getattr(self, self.shortcut_name)(x) if self.shortcut_name else x
        for i in range(1, self.layers + 1):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = F.relu(x + sum_ if i == self.layers else x)
        return x


class ResNet(Normalized):
    """Post-activation: resnet18 for small images, resnet50 (v1.5) for photographs."""

    def __init__(self, bottleneck, width=64, classes=10, channels=3, mean=(), std=(),
                 torchvision=False):
        super().__init__(channels, mean, std)
        torchvision = torchvision or bottleneck  # its names
        self.pooled = bottleneck
        self.conv1 = (nn.Conv2d(channels, width, 7, 2, 3, bias=False) if bottleneck else
                      nn.Conv2d(channels, width, 3, 1, 1, bias=False))
        self.bn1 = nn.BatchNorm2d(width, momentum=MOMENTUM)
        inputs = width
        for stage, count in enumerate([3, 4, 6, 3] if bottleneck else [2, 2, 2, 2]):
            inner, blocks = width << stage, []
            outputs = [inner, inner, 4 * inner] if bottleneck else [inner, inner]
            for i in range(count):
                blocks.append(ResNetBlock(inputs, outputs, [1, 3, 1] if bottleneck else [3, 3],
                                          2 if stage > 0 and i == 0 else 1,
                                          "downsample" if torchvision else "shortcut"))
                inputs = outputs[-1]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.classifier = "fc" if torchvision else "linear"
        self.add_module(self.classifier, nn.Linear(inputs, classes))

    def body(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pooled:
            x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return getattr(self, self.classifier)(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, momentum=MOMENTUM)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        activated = F.relu(self.bn1(x))
        shortcut = self.convShortcut(activated) if self.convShortcut else x
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(activated))))


class WideBlocks(nn.Module):
    def __init__(self, inputs, outputs, count, stride):
        super().__init__()
        self.layer = nn.Sequential(WideBlock(inputs, outputs, stride),
                                   *[WideBlock(outputs, outputs, 1) for _ in range(count - 1)])

    def forward(self, x):
        return self.layer(x)


class WideResNet(Normalized):
    """With TRADES's names; width: channels of the first blocks, 16 times the widening factor.

    unused_blocks: with the group that TRADES's own definition has and never uses."""

    def __init__(self, depth, width=160, classes=10, channels=3, mean=(), std=(),
                 unused_blocks=False):
        super().__init__(channels, mean, std)
        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = WideBlocks(16, width, count, 1)
        if unused_blocks:
            self.sub_block1 = WideBlocks(16, width, count, 1)
        self.block2 = WideBlocks(width, 2 * width, count, 2)
        self.block3 = WideBlocks(2 * width, 4 * width, count, 2)
        self.bn1 = nn.BatchNorm2d(4 * width, momentum=MOMENTUM)
        self.fc = nn.Linear(4 * width, classes)

    def body(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class SiluBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.batchnorm_0 = nn.BatchNorm2d(inputs, momentum=SILU_MOMENTUM)
        self.conv_0 = nn.Conv2d(inputs, outputs, 3, stride, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outputs, momentum=SILU_MOMENTUM)
        self.conv_1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)
        self.shortcut = None
        if inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        activated = F.silu(self.batchnorm_0(x))
        inner = F.silu(self.batchnorm_1(self.conv_0(F.pad(activated, self.padding))))
        return self.conv_1(inner) + (self.shortcut(activated) if self.shortcut else x)


class SiluBlocks(nn.Module):
    def __init__(self, inputs, outputs, count, stride):
        super().__init__()
        self.block = nn.Sequential(SiluBlock(inputs, outputs, stride),
                                   *[SiluBlock(outputs, outputs, 1) for _ in range(count - 1)])

    def forward(self, x):
        return self.block(x)


class SiluWideResNet(Normalized):
    """With DeepMind's names and TensorFlow's padding; kept: with mean and std in the state dict."""

    def __init__(self, depth, width=160, classes=10, channels=3, mean=(), std=(), kept=False):
        super().__init__(channels, mean, std, kept)
        count = (depth - 4) // 6
        self.init_conv = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.layer = nn.Sequential(SiluBlocks(16, width, count, 1),
                                   SiluBlocks(width, 2 * width, count, 2),
                                   SiluBlocks(2 * width, 4 * width, count, 2))
        self.batchnorm = nn.BatchNorm2d(4 * width, momentum=SILU_MOMENTUM)
        self.logits = nn.Linear(4 * width, classes)

    def body(self, x):
        x = F.silu(self.batchnorm(self.layer(self.init_conv(x))))
        return self.logits(x.mean((2, 3)))


class MnistNet(nn.Sequential):
    """Of Wong et al. 2020: layers without names, but their numbers."""

    def __init__(self, width=16, classes=10, height=28, image_width=28, channels=1, mean=(),
                 std=()):
        features = 2 * width * (height // 4) * (image_width // 4)
        super().__init__(nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU(),
                         nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(), nn.Flatten(),
                         nn.Linear(features, 100), nn.ReLU(), nn.Linear(100, classes))
        mean, std = mean or [0.0] * channels, std or [1.0] * channels
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x):
        return super().forward((x - self.mean) / self.std)


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
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def make_model(spec, naming="ringfort"):
    """spec: a dict as in the metadata "ringfort.model" of a checkpoint; naming: as of `ringfort export`."""
    name = spec["name"]
    common = {key: spec[key] for key in ("width", "classes", "channels", "mean", "std")}
    size = {key: spec[key] for key in ("height", "image_width")}
    makers = {
        "cnn_small": lambda: CnnSmall(**size, **common),
        "mnist_net": lambda: MnistNet(**size, **common),
        "preact_resnet18": lambda: PreActResNet18(raw_shortcut=False, **common),
        "preact_resnet18_raw": lambda: PreActResNet18(raw_shortcut=True, **common),
        "resnet18": lambda: ResNet(
            bottleneck=False, torchvision=naming == "torchvision", **common),
        "resnet50": lambda: ResNet(bottleneck=True, **common),
        "wrn_28_10": lambda: WideResNet(28, unused_blocks=naming == "trades", **common),
        "wrn_34_10": lambda: WideResNet(34, unused_blocks=naming == "trades", **common),
        "wrn_28_10_silu": lambda: SiluWideResNet(28, kept=naming == "deepmind", **common),
        "wrn_70_16_silu": lambda: SiluWideResNet(70, kept=naming == "deepmind", **common),
    }
    return makers[name]()


def ringfort_state(model):
    """Parameters and running statistics under the names of a Ringfort checkpoint."""
    return {name: value for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")}


def load_checkpoint(path, naming="ringfort"):
    """The model of weights that Ringfort has exported, in float32."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        spec = json.loads(file.metadata()["ringfort.model"])
        weights = {name: file.get_tensor(name) for name in file.keys()}
    if naming == "deepmind":  # its state dict has them
        spec |= {"mean": [], "std": []}
    model = make_model(spec, naming)
    model.load_state_dict(weights, strict=True)
    return model
