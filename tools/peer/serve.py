"""The other end of bench/peer.h: answers each line on standard input with one line of JSON.

A bench asks in turns with its own measurements, so both see the same machine. Without PyTorch the
greeting is "no torch" and the script ends.
"""

import argparse
import json
import sys
import time

try:
    import torch
except ImportError:
    print("no torch", flush=True)
    sys.exit(0)


def arguments(**extra):
    """Parses --threads, --device and the given options (name=default), and sets PyTorch's threads and
    the device that tensors are made on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    for name, default in extra.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    options = parser.parse_args()
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    torch.set_default_device(options.device)
    # As in Ringfort, float32 means float32; bfloat16 is asked for by name.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return options


def synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work, at_least=0.0):
    """Seconds per call of work(), called until `at_least` seconds have passed. On a GPU calls are
    queued 16 at a time and waited for, so that the waiting costs little."""
    together = 16 if at_least > 0 and torch.cuda.is_available() else 1
    synchronize()
    calls, start = 0, time.perf_counter()
    while True:
        for _ in range(together):
            work()
        synchronize()
        calls += together
        passed = time.perf_counter() - start
        if passed >= at_least:
            return passed / calls


def serve(answer):
    """Answers questions by answer(words) -> dict until standard input ends."""
    print(json.dumps({"torch": torch.__version__.split("+")[0]}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line.split())), flush=True)


def serve_timings(make_work):
    """Answers "name size ..." by the seconds per call of make_work(name, size, ...), made once."""
    made = {}

    def answer(words):
        key = tuple(words)
        if key not in made:
            made.clear()  # one case's arrays at a time
            made[key] = make_work(words[0], *map(int, words[1:]))
            made[key]()  # warms up
        return {"seconds": seconds_of(made[key], 0.05)}

    serve(answer)
