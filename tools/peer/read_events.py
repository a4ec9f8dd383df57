#!/usr/bin/env python3
"""Reads the event file of a run with TensorBoard's own reader and compares it with metrics.jsonl.

    tools/setup --peer
    build/peer/bin/python tools/peer/read_events.py RUN

Ends with 1 where a scalar is missing, twice, or another than the record says.
"""

import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"train/loss": "loss", "train/accuracy": "accuracy", "train/lr": "lr",
        "train/images_per_second": "images_per_second",
        "held_out/probe_accuracy": "probe_accuracy", "held_out/clean_accuracy": "clean_accuracy",
        "held_out/robust_accuracy": "robust_accuracy"}


def same(a, b):
    return (math.isnan(a) and b is None) or (b is not None and abs(a - b) <= 1e-6 * abs(b))


def main(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    failed = False
    for tag, key in TAGS.items():
        expected = [(r["step"], r[key]) for r in records
                    if r["kind"] == ("epoch" if key in ("clean_accuracy", "robust_accuracy")
                                     else "step") and key in r]
        found = [(e.step, e.value) for e in events.Scalars(tag)] if expected else []
        equal = len(found) == len(expected) and all(
            a[0] == b[0] and same(a[1], b[1]) for a, b in zip(found, expected))
        print(f"{tag:26} {len(found):6} of {len(expected):6} {'equal' if equal else 'DIFFERENT'}")
        failed |= not equal
    return 1 if failed or not records else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
