#!/usr/bin/env python3
"""Turns weights that PyTorch has saved (.pt, .pth, .ckpt, .tar) into a file for `ringfort import`.

    build/peer/bin/python tools/peer/pt_to_safetensors.py IN OUT.safetensors [--entry NAME] [--prefix P]

Only tensors are read (torch.load with weights_only=True): nothing in the file is run. A checkpoint of
a training holds more than weights; of its entries the first of ENTRIES that is there is taken, or the
one that --entry names. --prefix keeps the tensors whose names begin with it ("module.model."), of
files that hold a network more than once. Buffers of whole numbers and of truth values decide nothing
and are left out by name. Needs PyTorch and safetensors (tools/setup --peer).
"""

import argparse
import os
import sys
from pathlib import Path

# Averaged weights come first: published figures are theirs.
ENTRIES = ["ema", "ema_state_dict", "state_dict_ema", "model_ema", "state_dict", "model_state_dict",
           "model", "net", "weights"]


def fail(sentence):
    sys.exit(f"pt_to_safetensors: {sentence}")


def is_state_dict(value):
    import torch

    return isinstance(value, dict) and any(torch.is_tensor(x) for x in value.values())


def state_dict_of(content, entry, path):
    """The dict of tensors in what torch.load returned, and the entry that it was under."""
    if not isinstance(content, dict):
        fail(f"'{path}' holds a {type(content).__name__}, not a state dict; save "
             "model.state_dict() in place of the model")
    if entry is not None:
        if not is_state_dict(content.get(entry)):
            known = [str(key) for key, value in content.items() if is_state_dict(value)]
            fail(f"'{path}' has no state dict under '{entry}'; those that it has: "
                 f"{', '.join(known) or 'none'}")
        return content[entry], entry
    for name in ENTRIES:
        if is_state_dict(content.get(name)):
            return content[name], name
    if is_state_dict(content):
        return content, None
    fail(f"'{path}' holds no state dict that is known by its name; its entries are "
         f"{', '.join(str(key) for key in list(content)[:10])}; name one by --entry")


def load(path):
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        fail(f"cannot read '{path}': {error.strerror or error}")
    except Exception as error:  # torch.load has no exception of its own
        fail(f"'{path}' holds more than tensors and plain values, or is damaged "
             f"({type(error).__name__}); load it where it was made and save model.state_dict() alone")


def convert(source, target, entry, prefix):
    from safetensors.torch import save_file
    import torch

    if target.exists():
        fail(f"'{target}' is there already; nothing was changed, choose another name")
    state, found = state_dict_of(load(source), entry, source)
    # Cloned: tensors may share memory, which the format does not know.
    tensors = {str(name): value.detach().clone().contiguous() for name, value in state.items()
               if torch.is_tensor(value) and str(name).startswith(prefix)}
    # Counters of PyTorch's are int64, which import knows to leave out. No weight is of another kind.
    dropped = sorted(name for name, value in tensors.items()
                     if not value.is_floating_point() and value.dtype != torch.int64)
    for name in dropped:
        del tensors[name]
    if not tensors:
        fail(f"no tensor in '{source}' has a name that begins with '{prefix}'; the first is "
             f"'{next(iter(state))}'")
    # Under another name first: what has the name is whole.
    unfinished = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        save_file(tensors, unfinished)
        os.rename(unfinished, target)
    except Exception as error:
        unfinished.unlink(missing_ok=True)
        fail(f"cannot write '{target}': {error}")
    if dropped:
        print(f"left out, because they are not of real numbers: {', '.join(dropped)}")
    print(f"{len(tensors)} tensors of {f'entry {found!r} of ' if found else ''}{source} "
          f"written to {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--entry")
    parser.add_argument("--prefix", default="")
    options = parser.parse_args()
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        fail(f"{error.name} is not installed here; run it by build/peer/bin/python after "
             "tools/setup --peer")
    convert(options.source, options.target, options.entry, options.prefix)


if __name__ == "__main__":
    main()
