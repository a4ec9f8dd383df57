// The compiled half of the Python package: a model with an Exec of its own and the questions that
// can be asked of it. python/ringfort/__init__.py is the half that users see: it has checked and
// converted every array that comes here (pixels float32 (N, H, W, C) in [0, 1], labels int32 below
// the number of classes, in one piece each).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <numeric>

#include "adversarial/attack_steps.h"
#include "adversarial/evaluate.h"
#include "adversarial/method.h"
#include "engine/transfer.h"
#include "engine/version.h"
#include "models/checkpoint.h"
#include "tools/machine.h"
#include "tools/recipe_file.h"

namespace py = pybind11;

namespace ringfort {
namespace {

using Pixels = py::array_t<float, py::array::c_style>;
using Labels = py::array_t<int32_t, py::array::c_style>;

struct AttackSettings {
  std::string attack, norm;
  double eps = 0;
  std::optional<double> alpha;
  int steps = 0, restarts = 0;
  bool early_stop = true;
  uint64_t seed = 0;
  int64_t batch_size = 0;
};

AttackOptions make_options(const AttackSettings& settings) {
  require_eps_in_range("eps", settings.norm, settings.eps);
  ThreatModel threat;
  threat.norm = parse_norm(settings.norm);
  threat.eps = settings.eps;
  AttackOptions options = evaluation_attack(settings.attack, threat, settings.steps);
  if (settings.alpha) {
    require_eps_in_range("alpha", settings.norm, *settings.alpha);
    options.alpha = *settings.alpha;
  }
  options.restarts = settings.restarts;
  options.stop = settings.early_stop ? StopRule::kOnSuccess : StopRule::kAllSteps;
  options.seed = settings.seed;
  return options;
}

class PythonModel {
 private:
  // Without the interpreter's lock, and one thread at a time: an Exec serves no more.
  template <class Work>
  auto alone(const Work& work) {
    const py::gil_scoped_release others_run;
    const std::lock_guard lock(mutex_);
    return work();
  }

 public:
  PythonModel(const std::string& checkpoint, const std::string& device, int threads)
      : exec_(open_exec(device, threads)),
        pool_(exec_->device()),
        model_(load_checkpoint(*exec_, checkpoint, {.device = exec_->device()}).model) {}

  const ModelSpec& spec() const { return model_->spec(); }

  py::array_t<float> logits(const Pixels& x) {
    const std::vector<float> values = alone([&] {
      Pass p(*exec_, pool_, model_->params(),
             {.norms = attacked_norms(model_->spec().auxiliary_norms)});
      return to_vector<float>(*exec_, model_->forward(p, p.input(pixels(x))).value);
    });
    return py::array_t<float>({x.shape(0), spec().classes}, values.data());
  }

  py::array_t<float> input_gradient(const Pixels& x, const Labels& y) {
    return images(x, alone([&] {
                    const InputGradient g = ringfort::input_gradient(*exec_, pool_, *model_, {},
                                                                     pixels(x), {labels(y)});
                    return to_vector<float>(*exec_, g.dx);
                  }));
  }

  // x_adv and the flags.
  py::tuple attack(const Pixels& x, const Labels& y, const AttackSettings& settings) {
    AttackOptions options = make_options(settings);
    options.norms = attacked_norms(model_->spec().auxiliary_norms);
    std::vector<float> x_adv;
    const std::vector<uint8_t> fooled = alone([&] {
      std::vector<int64_t> numbers(static_cast<size_t>(x.shape(0)));
      std::iota(numbers.begin(), numbers.end(), 0);
      const Shape count = vector_shape(x.shape(0));
      const AttackInput input{pixels(x), labels(y),
                              to_tensor<int64_t>(*exec_, pool_, count, numbers)};
      AttackResult result =
          ringfort::attack(*exec_, pool_, *model_, input, options, settings.batch_size);
      x_adv = to_vector<float>(*exec_, result.x_adv);
      const View found{x_adv.data(), Dtype::kFloat32, input.x_nat.shape()};
      const View given{const_cast<float*>(x.data()), Dtype::kFloat32, input.x_nat.shape()};
      verify_threat_model(options.threat, found, given);
      return std::move(result.fooled);
    });
    py::array_t<bool> flags(x.shape(0));
    std::copy(fooled.begin(), fooled.end(), flags.mutable_data());
    return py::make_tuple(images(x, x_adv), flags);
  }

 private:
  Tensor pixels(const Pixels& x) {
    const Shape shape{x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
    return to_tensor<float>(*exec_, pool_, shape, {x.data(), static_cast<size_t>(x.size())});
  }
  Tensor labels(const Labels& y) {
    return to_tensor<int32_t>(*exec_, pool_, vector_shape(y.size()),
                              {y.data(), static_cast<size_t>(y.size())});
  }
  static py::array_t<float> images(const Pixels& like, const std::vector<float>& values) {
    return py::array_t<float>({like.shape(0), like.shape(1), like.shape(2), like.shape(3)},
                              values.data());
  }

  std::mutex mutex_;
  std::unique_ptr<Exec> exec_;
  Pool pool_;
  std::unique_ptr<Model> model_;
};

void translate(std::exception_ptr thrown) {  // NOLINT: the signature is pybind11's
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const OutOfMemory& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const Error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  }
}

PYBIND11_MODULE(_native, m) {
  py::register_exception_translator(translate);
  m.def("version", [] { return std::string(version()); });
  py::class_<PythonModel>(m, "Model")
      .def(py::init<const std::string&, const std::string&, int>())
      .def_property_readonly("name", [](const PythonModel& model) { return model.spec().name; })
      .def_property_readonly("classes",
                             [](const PythonModel& model) { return model.spec().classes; })
      .def_property_readonly("shape",
                             [](const PythonModel& model) {
                               const ModelSpec& spec = model.spec();
                               return py::make_tuple(spec.height, spec.image_width, spec.channels);
                             })
      .def("logits", &PythonModel::logits)
      .def("input_gradient", &PythonModel::input_gradient)
      .def(
          "attack",
          [](PythonModel& model, const Pixels& x, const Labels& y, const std::string& attack,
             const std::string& norm, double eps, std::optional<double> alpha, int steps,
             int restarts, bool early_stop, uint64_t seed, int64_t batch_size) {
            return model.attack(
                x, y, {attack, norm, eps, alpha, steps, restarts, early_stop, seed, batch_size});
          },
          py::arg("x"), py::arg("y"), py::kw_only(), py::arg("attack"), py::arg("norm"),
          py::arg("eps"), py::arg("alpha"), py::arg("steps"), py::arg("restarts"),
          py::arg("early_stop"), py::arg("seed"), py::arg("batch_size"));
}

}  // namespace
}  // namespace ringfort
