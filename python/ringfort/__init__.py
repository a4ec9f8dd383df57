"""Ringfort from Python: load a classifier, ask it for logits and input gradients, attack it.

    import ringfort
    model = ringfort.load("runs/quickstart")            # a run folder or a .safetensors checkpoint
    x_adv, fooled = ringfort.attack(model, x, y, eps=8/255, steps=10)

Arrays come in as NumPy arrays or as anything on the CPU that speaks DLPack, such as a PyTorch tensor,
which is read where it lies. Results are NumPy arrays, which speak DLPack too:
`torch.from_dlpack(x_adv)` makes a tensor of them without a copy.

Images are float32 in [0, 1], (N, C, H, W) as in PyTorch; `layout="NHWC"` says that channels are last, in
`x` and in what is returned. Normalisation is the model's first layer, so nothing is to be subtracted
or divided before, and eps is in the units of the pixels. Labels are integers (N,).

What is wrong with an argument is said by a ValueError in one sentence.
"""

import operator
import os
from typing import NamedTuple

import numpy

from . import _native

__all__ = ["AttackResult", "Model", "attack", "load"]
__version__ = _native.version()


def load(path, *, device="cpu", threads=0):
    """The model of a checkpoint, or the best one of a run folder. threads: 0 for all cores."""
    path = os.fspath(path)
    if os.path.isdir(path):
        folder, path = path, os.path.join(path, "best.safetensors")
        if not os.path.exists(path):
            raise ValueError(f"'{folder}' holds no best.safetensors; has a run been trained there?")
    return Model(_native.Model(path, device, threads))


class Model:
    """A classifier with fixed weights. May be used by several threads, which then take turns."""

    def __init__(self, native):
        self._native = native
        self.name = native.name
        self.classes = native.classes
        height, width, channels = native.shape
        self.shape = channels, height, width  # of an image

    def __repr__(self):
        return f"<ringfort.Model {self.name}: {self.shape} -> {self.classes} classes>"

    def __call__(self, x, *, layout="NCHW"):
        """Logits (N, classes) of the images, by running statistics, in float32."""
        return self._native.logits(_images(self, x, layout))

    def input_gradient(self, x, y, *, layout="NCHW"):
        """The gradient of the cross-entropy in the pixels, shaped as x, by running statistics.

        The losses are summed over the batch, not averaged: an image's gradient does not depend on
        the others. No gradient in the weights is formed.
        """
        images = _images(self, x, layout)
        return _in_layout(self._native.input_gradient(images, _labels(self, y, len(images))), layout)


class AttackResult(NamedTuple):
    x_adv: numpy.ndarray  # float32, shaped as x
    fooled: numpy.ndarray  # bool (N,): the model's answer to x_adv is not y


def attack(model, x, y, attack="pgd", norm="Linf", eps=8 / 255, steps=None, alpha=None, restarts=1,
           *, early_stop=True, seed=0, batch_size=128, layout="NCHW"):
    """Looks for images x_adv within eps of x, pixels in [0, 1], that the model does not take for y.

    attack: "pgd" (Madry et al. 2018; steps: 10), "fgsm" (Goodfellow et al. 2015) or "fgsm-rs" (Wong et
    al. 2020), which take one step. norm: "Linf" or "L2". alpha: the step size; None is eps / 4 for
    pgd, eps for fgsm, 1.25 eps for fgsm-rs. restarts: from so many random starts, of which the best
    is kept. early_stop: an image that is won goes no further, as in `ringfort evaluate`; otherwise
    every image takes all steps, and its highest loss is kept. seed: of the random starts, which also
    depend on an image's place in x and on nothing else. batch_size: images worked on at once.

    Returns (x_adv, fooled). fooled is what a clean forward pass says of x_adv, and every x_adv has
    been checked against the threat model.
    """
    images = _images(model, x, layout)
    if steps is None:
        steps = 10 if attack == "pgd" else 1
    for name, value in ("eps", eps), ("alpha", alpha):
        if value is not None and not numpy.isfinite(value):
            raise ValueError(f"{name} is {value}; it must be a finite number")
    steps, restarts = _whole("steps", steps, 2**31 - 1), _whole("restarts", restarts, 2**31 - 1)
    seed, batch_size = _whole("seed", seed, 2**64 - 1), _whole("batch_size", batch_size, 2**31 - 1)
    x_adv, fooled = model._native.attack(
        images, _labels(model, y, len(images)), attack=attack, norm=norm, eps=eps, alpha=alpha,
        steps=steps, restarts=restarts, early_stop=early_stop, seed=seed, batch_size=batch_size)
    return AttackResult(_in_layout(x_adv, layout), fooled)


def _whole(name, value, largest):
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be a whole number") from None
    if not 0 <= number <= largest:
        raise ValueError(f"{name} is {number}; it must be from 0 to {largest}")
    return number


def _array(value, what):
    if isinstance(value, numpy.ndarray) or not hasattr(value, "__dlpack__"):
        return numpy.asarray(value)
    try:
        return numpy.from_dlpack(value)
    except Exception as error:  # every library has its own
        reason = (str(error).splitlines() or ["it does not say why"])[0]
        raise ValueError(f"{what} cannot be read as an array in the CPU's memory: {reason}") from error


def _images(model, x, layout):
    """x, checked, as (N, H, W, C) in one piece."""
    x = _array(x, "x")
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"layout is {layout!r}; it must be 'NCHW' or 'NHWC'")
    if x.dtype != numpy.float32:
        raise ValueError(f"x is {x.dtype}; pixels must be float32 in [0, 1]"
                         + (", bytes divided by 255" if x.dtype == numpy.uint8 else ""))
    channels, height, width = model.shape
    shapes = {"NCHW": (channels, height, width), "NHWC": (height, width, channels)}
    if x.ndim != 4 or len(x) == 0 or x.shape[1:] != shapes[layout]:
        raise ValueError(f"x has the shape {x.shape}; the model takes images "
                         f"(N, {', '.join(map(str, shapes[layout]))}), {layout}")
    if numpy.isnan(x).any():
        raise ValueError("x holds NaN; pixels must be in [0, 1]")
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"x has values from {x.min():g} to {x.max():g}; pixels must be in [0, 1], "
                         "without normalisation, which is the model's first layer")
    return numpy.ascontiguousarray(x if layout == "NHWC" else x.transpose(0, 2, 3, 1))


def _labels(model, y, count):
    y = _array(y, "y")
    if not numpy.issubdtype(y.dtype, numpy.integer):
        raise ValueError(f"y is {y.dtype}; labels must be integers")
    if y.shape != (count,):
        raise ValueError(f"y has the shape {y.shape}; {count} images need labels ({count},)")
    if y.min() < 0 or y.max() >= model.classes:
        raise ValueError(f"y has labels from {y.min()} to {y.max()}; "
                         f"the model's classes are 0 to {model.classes - 1}")
    return numpy.ascontiguousarray(y, numpy.int32)


def _in_layout(images, layout):
    return images if layout == "NHWC" else numpy.ascontiguousarray(images.transpose(0, 3, 1, 2))
