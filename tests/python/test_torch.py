"""With PyTorch: its tensors go in and results become its tensors, without copies. Exits with 77, which
ctest shows as skipped, where there is no PyTorch."""

import os
import sys
import unittest
from pathlib import Path

try:
    import torch
except ImportError:
    print("PyTorch is not installed: its tensors are not tested here (tools/setup --peer installs it)")
    sys.exit(77)

try:
    import ringfort
except ImportError as error:
    print(f"The package is built for another Python than PyTorch is installed for: {error}")
    sys.exit(77)
from test_ringfort import case

ROOT = Path(__file__).parents[2]

class Torch(unittest.TestCase):
    def test_the_lines_of_the_readme(self):
        model, images, labels, _ = case("preact_resnet18")
        lines = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
        self.assertIn(lines, (ROOT / "docs/python.md").read_text())
        path = Path(os.environ["RINGFORT_TEST_DATA"]) / "parity-preact_resnet18.safetensors"
        names = {"x": torch.from_numpy(images), "y": torch.from_numpy(labels.copy())}
        exec(lines.replace("runs/quickstart", str(path)), names)
        x, y = names["x"], names["y"]
        self.assertTrue(torch.equal(names["logits"], torch.from_numpy(model(images))))
        self.assertEqual(names["dx"].shape, x.shape)
        x_adv, fooled = map(torch.from_dlpack, (names["x_adv"], names["fooled"]))
        self.assertLessEqual((x_adv - x).abs().max().item(), 8 / 255 + 1e-6)
        self.assertTrue(torch.equal(fooled, torch.from_dlpack(model(x_adv)).argmax(1) != y))

    def test_memory_is_shared(self):
        model, images, _, _ = case("cnn_small")
        logits = model(torch.from_numpy(images))
        torch.from_dlpack(logits)[0, 0] = 123
        self.assertEqual(logits[0, 0], 123)

    def test_gradients_of_pytorch_stay_out(self):
        model, images, _, _ = case("cnn_small")
        x = torch.from_numpy(images)
        with self.assertRaisesRegex(ValueError, "detach"):
            model(x.clone().requires_grad_())
        with self.assertRaisesRegex(ValueError, "x is float64"):
            model(x.double())
        with self.assertRaisesRegex(ValueError, "x "):
            model(x.bfloat16())
        channels_last = x.contiguous(memory_format=torch.channels_last)
        self.assertTrue((model(channels_last) == model(x)).all())


if __name__ == "__main__":
    unittest.main()
