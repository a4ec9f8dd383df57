"""The Python package: against vectors from PyTorch, against what the program `ringfort` does with the
same images, and with arguments that are wrong.

Environment: RINGFORT_PROGRAM, RINGFORT_TEST_DATA; PYTHONPATH leads to the package.
"""

import json
import os
import struct
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

import numpy as np

import ringfort

DATA = Path(os.environ["RINGFORT_TEST_DATA"])


def read_arrays(path):
    """The arrays of a safetensors file."""
    content = path.read_bytes()
    length, = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + length])
    header.pop("__metadata__", None)
    dtypes = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}
    arrays = {}
    for name, entry in header.items():
        first, end = (8 + length + at for at in entry["data_offsets"])
        arrays[name] = np.frombuffer(content[first:end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def nchw(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def case(name):
    """A model with its images (N, C, H, W), labels, and PyTorch's answers in float64."""
    model = ringfort.load(DATA / f"parity-{name}.safetensors", threads=2)
    expected = read_arrays(DATA / f"parity-{name}-expected.safetensors")
    channels, height, width = model.shape
    x = expected["x"].reshape(-1, height, width, channels).astype(np.float32)
    return model, nchw(x), expected["labels"].reshape(-1), expected


class OnlyDlpack:
    """What another library's array is to us."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Elsewhere:
    """An array that cannot be had on the CPU."""

    def __dlpack__(self, **options):
        raise BufferError("it lies on a GPU\nand so on")

    def __dlpack_device__(self):
        return 2, 0


class AgainstPyTorch(unittest.TestCase):
    def test_logits_and_input_gradients(self):
        for name in "cnn_small", "preact_resnet18", "wrn_28_10_silu", "mnist_net":
            with self.subTest(name):
                model, x, y, expected = case(name)
                logits = model(x)
                wanted = expected["eval.logits"].reshape(logits.shape)
                self.assertEqual(logits.dtype, np.float32)
                np.testing.assert_allclose(logits, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)
                gradient = model.input_gradient(x, y)
                self.assertEqual(gradient.shape, x.shape)
                wanted = nchw(expected["eval.dx"].reshape(len(x), *x.shape[2:], x.shape[1]))
                np.testing.assert_allclose(gradient, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)

    def test_channels_last(self):
        model, x, y, _ = case("preact_resnet18")
        last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(model(last, layout="NHWC"), model(x))
        np.testing.assert_array_equal(nchw(model.input_gradient(last, y, layout="NHWC")),
                                      model.input_gradient(x, y))
        np.testing.assert_array_equal(
            nchw(ringfort.attack(model, last, y, layout="NHWC").x_adv),
            ringfort.attack(model, x, y).x_adv)

    def test_what_the_model_is(self):
        model, _, _, _ = case("cnn_small")
        self.assertEqual(model.name, "cnn_small")
        self.assertIn("cnn_small", repr(model))
        self.assertEqual(model.shape[0], 3)
        self.assertRegex(ringfort.__version__, r"^\d+\.\d+")


class Dlpack(unittest.TestCase):
    def test_in(self):
        model, x, y, _ = case("cnn_small")
        np.testing.assert_array_equal(model(OnlyDlpack(x)), model(x))
        np.testing.assert_array_equal(model.input_gradient(OnlyDlpack(x), OnlyDlpack(y.copy())),
                                      model.input_gradient(x, y))
        # Not in one piece: every second image, mirrored.
        views = np.concatenate([x, x])[::2, :, :, ::-1]
        np.testing.assert_array_equal(model(OnlyDlpack(views)), model(views.copy()))

    def test_out(self):
        model, x, y, _ = case("cnn_small")
        x_adv, fooled = ringfort.attack(model, x, y)
        for result in model(x), model.input_gradient(x, y), x_adv:
            self.assertEqual(result.__dlpack_device__(), (1, 0))  # the CPU
            taken = np.from_dlpack(result)
            np.testing.assert_array_equal(taken, result)
            self.assertTrue(np.shares_memory(taken, result))
        self.assertEqual(fooled.dtype, bool)


class Attacks(unittest.TestCase):
    def check(self, norm, eps, **options):
        model, x, y, _ = case("preact_resnet18")
        y = model(x).argmax(1)  # so that there is something to fool
        x_adv, fooled = ringfort.attack(model, x, y, norm=norm, eps=eps, **options)
        self.assertEqual((x_adv.shape, x_adv.dtype), (x.shape, np.float32))
        self.assertTrue(x_adv.min() >= 0 and x_adv.max() <= 1)
        distance = x_adv.astype(np.float64) - x
        distance = (np.abs(distance).max((1, 2, 3)) if norm == "Linf"
                    else np.sqrt((distance**2).sum((1, 2, 3))))
        self.assertLessEqual(distance.max(), eps * (1 + 1e-6) + 1e-6)
        self.assertGreater(distance.max(), eps / 2)
        np.testing.assert_array_equal(fooled, model(x_adv).argmax(1) != y)
        return x_adv, fooled

    def test_threat_models(self):
        _, fooled = self.check("Linf", 0.3)
        self.assertTrue(fooled.any())
        self.check("L2", 1.5, restarts=2)
        self.check("Linf", 0.05, attack="fgsm")
        self.check("Linf", 0.05, attack="fgsm-rs")

    def test_options_reach_the_attack(self):
        base, _ = self.check("Linf", 0.02, early_stop=False)
        for options in {"seed": 1}, {"steps": 3}, {"alpha": 0.001}, {"restarts": 3}:
            with self.subTest(options):
                other, _ = self.check("Linf", 0.02, early_stop=False, **options)
                self.assertFalse(np.array_equal(base, other))
        for options in {"seed": 0}, {"steps": 10}, {"alpha": 0.005}, {"batch_size": 2}:
            with self.subTest(options):
                other, _ = self.check("Linf", 0.02, early_stop=False, **options)
                np.testing.assert_allclose(base, other, atol=1e-6)

    def test_threads_take_turns(self):
        model, x, y, _ = case("preact_resnet18")
        wanted = ringfort.attack(model, x, y, steps=5).x_adv
        results = [None] * 4

        def work(i):
            results[i] = ringfort.attack(model, x, y, steps=5).x_adv

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(results))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            np.testing.assert_array_equal(result, wanted)


class AgainstTheProgram(unittest.TestCase):
    """Train on files in MNIST's format, then `ringfort evaluate` and ringfort.attack."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        random = np.random.default_rng(1)
        for name, count in ("train", 320), ("t10k", 60):
            labels = random.integers(0, 10, count, np.uint8)
            pixels = random.integers(0, 60, (count, 28, 28), np.uint8)
            for image, label in zip(pixels, labels):
                image[2 * label + 4:2 * label + 6] += 190  # a bright band of rows
            (cls.folder / f"{name}-images-idx3-ubyte").write_bytes(
                struct.pack(">4I", 2051, count, 28, 28) + pixels.tobytes())
            (cls.folder / f"{name}-labels-idx1-ubyte").write_bytes(
                struct.pack(">2I", 2049, count) + labels.tobytes())
        cls.x = (pixels / np.float32(255)).reshape(-1, 1, 28, 28).astype(np.float32)
        cls.y = labels
        recipe = cls.folder / "recipe.toml"
        recipe.write_text('dataset = "mnist"\nmethod = "standard"\nwidth = 4\nepochs = 20\n'
                          "lr = 0.02\nbatch-size = 16\nhold-out = 64\nprobe-every = 0\n"
                          "val-attack-steps = 3\n")
        cls.program("train", recipe, "--data-dir", cls.folder, "--output", cls.folder / "run")

    @classmethod
    def program(cls, command, *arguments):
        done = subprocess.run(
            [os.environ["RINGFORT_PROGRAM"], command, *map(str, arguments), "--device", "cpu",
             "--threads", "2"], capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)

    def test_the_same_images_are_fooled(self):
        model = ringfort.load(self.folder / "run", threads=2)
        result = self.folder / "result.json"
        for norm, eps, steps in ("Linf", 0.05, 10), ("L2", 0.8, 5):
            with self.subTest(norm):
                self.program("evaluate", self.folder / "run", "--norm", norm, "--eps", eps,
                             "--attack-steps", steps, "--restarts", 2, "--n", 40, "--seed", 7,
                             "--batch-size", 16, "--json", result)
                told = json.loads(result.read_text())["samples"]
                x, y = self.x[:40], self.y[:40]
                _, fooled = ringfort.attack(model, x, y, norm=norm, eps=eps, steps=steps, restarts=2,
                                            seed=7, batch_size=16)
                flags = np.array(told["robust_correct"], bool)
                np.testing.assert_array_equal(fooled, ~flags)
                self.assertTrue(0 < fooled.sum() < 40)
                np.testing.assert_array_equal(model(x).argmax(1), told["clean_predictions"])

    def test_a_run_folder_means_its_best_checkpoint(self):
        run, best = self.folder / "run", self.folder / "run" / "best.safetensors"
        np.testing.assert_array_equal(ringfort.load(run)(self.x), ringfort.load(str(best))(self.x))


class WrongArguments(unittest.TestCase):
    def refused(self, part, call, *arguments, **options):
        with self.assertRaises(ValueError) as caught:
            call(*arguments, **options)
        sentence = str(caught.exception)
        self.assertIn(part, sentence)
        self.assertNotIn("\n", sentence)

    def test_images(self):
        model, x, y, _ = case("cnn_small")
        one = np.float32(1)
        for part, wrong in [
            ("x is float64", x.astype(np.float64)),
            ("x is uint8; pixels must be float32 in [0, 1], bytes divided", (x * 255).astype(np.uint8)),
            ("the model takes images (N, 3, ", x[:, :2]),
            ("the model takes images (N, 3, ", x[0]),
            ("the model takes images (N, 3, ", x[:0]),
            ("NCHW", x.transpose(0, 2, 3, 1)),
            ("x has values from", x * 2),
            ("x has values from", x - one),
            ("without normalisation", np.where(x == x.max(), np.inf, x).astype(np.float32)),
            ("x holds NaN", np.where(x == x.max(), np.nan, x).astype(np.float32)),
            ("it lies on a GPU", Elsewhere()),
            ("x is <U6", "images"),
        ]:
            with self.subTest(part):
                self.refused(part, model, wrong)
                self.refused(part, model.input_gradient, wrong, y)
                self.refused(part, ringfort.attack, model, wrong, y)
        self.refused("layout is 'CHWN'", model, x, layout="CHWN")

    def test_labels(self):
        model, x, y, _ = case("cnn_small")
        for part, wrong in [
            ("y is float32", y.astype(np.float32)),
            ("y is bool", y > 0),
            (f"{len(x)} images need labels ({len(x)},)", y[1:]),
            (f"{len(x)} images need labels ({len(x)},)", y.reshape(-1, 1)),
            ("the model's classes are 0 to", np.where(y == y.max(), model.classes, y)),
            ("the model's classes are 0 to", np.where(y == y.max(), -1, y)),
            ("y has labels from", np.where(y == y.max(), 2**32, y)),
        ]:
            with self.subTest(part):
                self.refused(part, model.input_gradient, x, wrong)
                self.refused(part, ringfort.attack, model, x, wrong)

    def test_attacks(self):
        model, x, y, _ = case("cnn_small")
        for part, options in [
            ("no attack 'cw'", {"attack": "cw"}),
            ("L3", {"norm": "L3"}),
            ("8/255", {"eps": 8}),
            ("negative", {"eps": -0.1}),
            ("negative", {"alpha": -0.1}),
            ("one step", {"attack": "fgsm", "steps": 4}),
            ("at least 1 step", {"steps": 0}),
            ("1 restart", {"restarts": 0}),
            ("batch size", {"batch_size": 0}),
            ("eps is nan; it must be a finite number", {"eps": float("nan")}),
            ("alpha is inf", {"alpha": float("inf")}),
            ("seed is -1; it must be from 0 to 18446744073709551615", {"seed": -1}),
            ("steps is 2.5; it must be a whole number", {"steps": 2.5}),
            ("steps is 1099511627776; it must be from", {"steps": 2**40}),
        ]:
            with self.subTest(part):
                self.refused(part, ringfort.attack, model, x, y, **options)

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            self.refused("has a run been", ringfort.load, folder)
            self.refused("nothing.safetensors", ringfort.load, Path(folder) / "nothing.safetensors")
            broken = Path(folder) / "broken.safetensors"
            broken.write_bytes(b"no checkpoint")
            self.refused("broken.safetensors", ringfort.load, broken)
        self.refused("there is no device 'tpu'", ringfort.load,
                     DATA / "parity-cnn_small.safetensors", device="tpu")


class Docs(unittest.TestCase):
    def test_the_page_shows_the_examples(self):
        docs = Path(__file__).parents[2] / "docs"
        examples = "".join(path.read_text() for path in sorted((docs / "examples").glob("*.cpp")))
        blocks = (docs / "using-as-a-library.md").read_text().split("```cpp\n")[1:]
        self.assertEqual(len(blocks), 3)
        for block in blocks:
            self.assertIn(block.split("```")[0], examples)


if __name__ == "__main__":
    unittest.main()
