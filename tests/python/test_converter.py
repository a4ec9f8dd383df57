"""tools/peer/pt_to_safetensors.py: what PyTorch saves becomes a file that `ringfort import` reads.

Exits with 77, which ctest shows as skipped, where there is no PyTorch; that the converter then says
so in one sentence is tested first.
"""

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CONVERTER = Path(__file__).parents[2] / "tools/peer/pt_to_safetensors.py"
DATA = Path(os.environ["RINGFORT_TEST_DATA"])


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def convert(*arguments):
    """What the converter prints, and the sentence that it fails with, or None."""
    spec = importlib.util.spec_from_file_location("pt_to_safetensors", CONVERTER)
    converter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(converter)
    said, before = io.StringIO(), sys.argv
    sys.argv = [CONVERTER.name, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said):
            converter.main()
    except SystemExit as failure:
        return said.getvalue(), failure.code
    finally:
        sys.argv = before
    return said.getvalue(), None


class Converter(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.source = Path(self.folder.name) / "theirs.pt"
        self.target = Path(self.folder.name) / "theirs.safetensors"

    def refusal(self, *flags):
        """The sentence with which nothing is written."""
        before = sorted(Path(self.folder.name).iterdir())
        said, sentence = convert(self.source, self.target, *flags)
        self.assertEqual(sorted(Path(self.folder.name).iterdir()), before)
        self.assertRegex(sentence, r"^pt_to_safetensors: [^\n]+$")
        self.assertEqual(said, "")
        return sentence


class WithoutPyTorch(Converter):
    def test_it_says_what_is_missing(self):
        # -I and -S: no package beyond Python's own is found.
        done = run(sys.executable, "-I", "-S", "-B", CONVERTER, self.source, self.target)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^pt_to_safetensors: (torch|safetensors) is not installed "
                                      r"here; run it by build/peer/bin/python .*\n$")
        self.assertFalse(self.target.exists())


class WithPyTorch(Converter):
    def weights(self):
        return {name: value.clone() for name, value in
                load_file(DATA / "parity-resnet18.safetensors").items()}

    def converted(self, content, *flags):
        torch.save(content, self.source)
        self.target.unlink(missing_ok=True)
        said, failure = convert(self.source, self.target, *flags)
        self.assertIsNone(failure)
        return load_file(self.target), said

    def assert_same(self, found, expected):
        self.assertEqual(found.keys(), expected.keys())
        for name, value in expected.items():
            self.assertTrue(torch.equal(found[name], value), name)

    def test_weights_arrive(self):
        weights = self.weights()
        found, said = self.converted(weights)
        self.assert_same(found, weights)
        self.assertIn(f"{len(weights)} tensors of", said)
        ours = self.target.with_name("ours.safetensors")
        done = run(os.environ["RINGFORT_PROGRAM"], "import", self.target, "--model", "resnet18",
                   "--image-size", "8", "--output", ours)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assert_same(load_file(ours), weights)

    def test_averaged_weights_come_first(self):
        weights = self.weights()
        other = {name: value + 1 for name, value in weights.items()}
        training = {"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": other, "ema": weights}
        found, said = self.converted(training)
        self.assert_same(found, weights)
        self.assertIn("entry 'ema'", said)
        found, _ = self.converted(training, "--entry", "state_dict")
        self.assert_same(found, other)
        self.assertIn("state_dict, ema", self.refusal_of(training, "--entry", "optimizer"))

    def refusal_of(self, content, *flags):
        torch.save(content, self.source)
        self.target.unlink(missing_ok=True)
        return self.refusal(*flags)

    def test_one_network_of_two(self):
        weights = self.weights()
        both = {f"student.{name}": value for name, value in weights.items()}
        both |= {f"teacher.{name}": value + 1 for name, value in weights.items()}
        found, _ = self.converted(both, "--prefix", "teacher.")
        self.assert_same(found, {name: value for name, value in both.items()
                                 if name.startswith("teacher.")})
        self.assertIn("begins with 'nobody.'", self.refusal_of(both, "--prefix", "nobody."))

    def test_shared_memory_and_what_is_no_weight(self):
        weights = torch.arange(12, dtype=torch.float32).reshape(3, 4)
        found, said = self.converted({
            "a": weights, "b": weights.t(), "c": weights[1:], "half": weights.half(),
            "bn.num_batches_tracked": torch.tensor(7), "mask": weights > 3, "version": 2})
        self.assert_same(found, {
            "a": weights, "b": weights.t(), "c": weights[1:], "half": weights.half(),
            "bn.num_batches_tracked": torch.tensor(7)})
        self.assertIn("left out, because they are not of real numbers: mask", said)

    def test_what_is_refused(self):
        self.assertIn("cannot read", self.refusal())
        self.source.write_bytes(b"no weights at all")
        self.assertIn("damaged", self.refusal())
        torch.save(torch.nn.Linear(2, 2), self.source)  # code, which is not run
        self.assertIn("save model.state_dict() alone", self.refusal())
        self.assertIn("not a state dict", self.refusal_of(torch.zeros(3)))
        self.assertIn("its entries are epoch, lr", self.refusal_of({"epoch": 1, "lr": 0.5}))
        torch.save({"w": torch.zeros(1)}, self.source)
        self.target.write_text("somebody's")
        self.assertIn("is there already", self.refusal())
        self.assertEqual(self.target.read_text(), "somebody's")


if __name__ == "__main__":
    try:
        import torch
        from safetensors.torch import load_file
        unittest.main()
    except ImportError as error:
        done = unittest.main(defaultTest="WithoutPyTorch", exit=False).result
        print(f"{error.name} is not installed: what the converter does with PyTorch's files is not "
              "tested here (tools/setup --peer installs it)")
        sys.exit(77 if done.wasSuccessful() else 1)
