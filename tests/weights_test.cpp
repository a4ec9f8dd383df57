// Weights that travel: the state dicts that are written are those of the PyTorch definitions, what
// was exported comes back as the same bytes, and files of other tools are understood or refused
// with what is wrong in them.
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/files.h"
#include "models/checkpoint.h"
#include "models/naming.h"
#include "tests/program.h"
#include "tests/temp_folder.h"
#include "tests/tensors.h"
#include "tests/tiny_models.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

// Those of the program: another test of this process may add one.
const std::vector<ModelEntry> kModels = model_registry();

namespace fs = std::filesystem;

const fs::path kData = RINGFORT_TEST_DATA;

// Initialised, with statistics and norm parameters that are not at 0 and 1.
std::unique_ptr<Model> random_model(const ModelSpec& spec) {
  Exec exec;
  auto model = make_model(spec);
  testing::randomize(exec, model->params(), 5);
  return model;
}

std::vector<std::byte> all_weights(const Model& model) {
  auto bytes = testing::bytes_of(model.params().flat_master());
  const auto statistics = testing::bytes_of(model.params().flat_statistics());
  bytes.insert(bytes.end(), statistics.begin(), statistics.end());
  return bytes;
}

std::unique_ptr<Model> loaded(const fs::path& path) {
  Exec exec;
  return load_checkpoint(exec, path).model;
}

// Arrays as another tool would have saved them: changed one by one, under no metadata of ours.
class ForeignFile {
 public:
  explicit ForeignFile(const fs::path& like) : file_(load_safetensors(like)) {
    arrays = file_.arrays;
  }
  void save(const fs::path& path) const { save_safetensors(path, arrays, {}); }
  NamedArray& at(const std::string& name) {
    for (NamedArray& array : arrays)
      if (array.name == name) return array;
    FAIL(name);
    return arrays.front();
  }
  void add(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
           const std::vector<float>& values) {
    kept_.push_back(values);
    arrays.push_back({name, dtype, std::move(shape), std::as_bytes(std::span(kept_.back()))});
  }
  template <class T>
  void convert(NamedArray& array, const std::string& dtype, T (*to)(float)) {
    std::vector<std::byte>& bytes = converted_.emplace_back();
    for (const float value : to_floats(array, "")) {
      const T changed = to(value);
      const auto* first = reinterpret_cast<const std::byte*>(&changed);
      bytes.insert(bytes.end(), first, first + sizeof changed);
    }
    array.dtype = dtype;
    array.bytes = bytes;
  }

  std::vector<NamedArray> arrays;

 private:
  SafetensorsFile file_;
  std::vector<std::vector<float>> kept_;
  std::vector<std::vector<std::byte>> converted_;
};

std::string imported(const fs::path& from, const fs::path& to, const std::string& flags) {
  const Outcome outcome =
      run_program("import " + from.string() + " --output " + to.string() + " " + flags);
  INFO(outcome.output);
  REQUIRE(outcome.exit_code == 0);
  return outcome.output;
}

std::string refused(const fs::path& from, const fs::path& to, const std::string& flags) {
  const Outcome outcome =
      run_program("import " + from.string() + " --output " + to.string() + " " + flags);
  check_complaint(outcome, 1, "");
  CHECK_FALSE(fs::exists(to));
  return outcome.output;
}

}  // namespace

TEST_CASE("state dicts have the names, types and shapes of the PyTorch definitions", "[weights]") {
  std::istringstream lines(read_text(kData / "state_dicts.txt"));
  std::string line, title;
  std::vector<std::string> expected;
  int compared = 0;
  const auto compare = [&] {
    if (title.empty()) return;
    INFO(title);
    const size_t space = title.find(' ', 2);
    ModelSpec spec = tiny_spec(title.substr(2, space - 2), 4, 8, 3);
    spec.classes = 10;
    const auto model = make_model(spec);
    std::vector<std::string> ours;
    for (const NamedArray& array :
         state_dict(*model, find_naming(title.substr(space + 1), spec.name)).arrays)
      ours.push_back(fmt::format("{} {} {}", array.name, array.dtype, shape_text(array.shape)));
    std::sort(ours.begin(), ours.end());
    std::sort(expected.begin(), expected.end());
    CHECK(ours == expected);
    ++compared;
  };
  while (std::getline(lines, line)) {
    if (!line.starts_with('#')) {
      expected.push_back(line);
      continue;
    }
    compare();
    title = line;
    expected.clear();
  }
  compare();
  CHECK(compared == 10);
}

TEST_CASE("what TRADES's definition never uses is a copy of what it does", "[weights]") {
  const auto model = random_model(tiny_spec("wrn_28_10", 2, 8, 3));
  const StateDict dict = state_dict(*model, find_naming("trades", "wrn_28_10"));
  std::map<std::string, std::span<const std::byte>> bytes;
  for (const NamedArray& array : dict.arrays) bytes[array.name] = array.bytes;
  int copies = 0;
  for (const auto& [name, copy] : bytes) {
    if (!name.starts_with("sub_")) continue;
    const auto original = bytes.at(name.substr(4));
    CHECK(std::equal(copy.begin(), copy.end(), original.begin(), original.end()));
    ++copies;
  }
  CHECK(copies == 4 * (2 + 2 * 5) + 1);  // filters, norms with their counters, the projection
}

TEST_CASE("exported weights come back as the same bytes", "[weights][program]") {
  const TempFolder folder;
  for (const ModelEntry& entry : kModels)
    for (const Naming& naming : namings()) {
      if (!naming.defines(entry.name)) continue;
      INFO(entry.name << " as " << naming.name);
      const fs::path start = folder / "start.safetensors", sent = folder / "sent.safetensors",
                     back = folder / "back.safetensors";
      for (const fs::path& path : {start, sent, back}) fs::remove(path);
      save_checkpoint(start, *random_model(tiny_spec(std::string(entry.name), 3, 16, 3)),
                      {{"ringfort.dataset", "cifar10"}});
      const Outcome exported =
          run_program(fmt::format("export {} --naming {} --format safetensors --output {}",
                                  start.string(), naming.name, sent.string()));
      INFO(exported.output);
      REQUIRE(exported.exit_code == 0);
      CHECK_THAT(exported.output, Contains(std::string(entry.name)));
      CHECK((exported.output.find("does not normalise") == std::string::npos) ==
            naming.normalization);
      imported(sent, back, "");
      CHECK(slurp(back) == slurp(start));
    }
}

TEST_CASE("a state dict of PyTorch is imported by its model's name alone", "[weights][program]") {
  const TempFolder folder;
  for (const std::string name :
       {"resnet18", "wrn_28_10", "wrn_28_10_silu", "preact_resnet18_raw"}) {
    INFO(name);
    const fs::path vectors = kData / ("parity-" + name + ".safetensors");
    const fs::path foreign = folder / (name + ".st"), ours = folder / (name + ".safetensors");
    ForeignFile file(vectors);
    for (NamedArray& array : file.arrays) array.name = "module.1." + array.name;
    file.add("module.0.mean", "F32", {1, 3, 1, 1}, {0.5f, 0.4f, 0.3f});
    file.add("module.0.std", "F32", {1, 3, 1, 1}, {0.25f, 0.2f, 0.125f});
    file.save(foreign);
    const std::string said = imported(foreign, ours, "--model " + name + " --dataset cifar10");
    CHECK_THAT(said, Contains("width 2, 10 classes") && Contains("'module.1.'") &&
                         Contains("0.5,0.4,0.3") && Contains("0.25,0.2,0.125"));
    const auto model = loaded(ours);
    CHECK(all_weights(*model) == all_weights(*loaded(vectors)));
    CHECK(model->spec().mean == std::vector<float>{0.5f, 0.4f, 0.3f});
    CHECK(model->spec().std == std::vector<float>{0.25f, 0.2f, 0.125f});
    CHECK(load_safetensors(ours).metadata.at("ringfort.dataset") == "cifar10");
  }
}

TEST_CASE("a normalisation is the command's, else the file's, else none", "[weights][program]") {
  const TempFolder folder;
  ForeignFile file(kData / "parity-resnet18.safetensors");
  file.save(folder / "plain");
  file.add("normalize.new_mean", "F32", {3, 1, 1}, {0.5f, 0.4f, 0.3f});
  file.save(folder / "half");
  file.add("std", "F32", {3, 1, 1}, {0.25f, 0.25f, 0.25f});
  file.save(folder / "elsewhere");
  file.arrays.back().name = "normalize.new_std";
  file.save(folder / "with");
  const auto mean = [&](const std::string& from, const std::string& flags) {
    fs::remove(folder / "a.safetensors");
    const std::string said =
        imported(folder / from, folder / "a.safetensors", "--model resnet18 " + flags);
    const ModelSpec spec = loaded(folder / "a.safetensors")->spec();
    CHECK((said.find("as they are") != std::string::npos) == (spec.mean[0] == 0));
    return spec.mean[0];
  };
  CHECK(mean("plain", "") == 0);
  CHECK(mean("with", "") == 0.5f);
  CHECK(mean("with", "--mean 0.1,0.2,0.3") == 0.1f);
  CHECK(mean("plain", "--mean 0.7,0.2,0.3 --std 1,1,0.5") == 0.7f);
  fs::remove(folder / "a.safetensors");
  for (const char* half : {"half", "elsewhere"})
    CHECK_THAT(refused(folder / half, folder / "a.safetensors", "--model resnet18"),
               Contains("unknown: normalize.new_mean"));
  CHECK_THAT(refused(folder / "plain", folder / "a.safetensors", "--model resnet18 --mean 0.1,0.2"),
             Contains("2 means") && Contains("3 channels"));
  CHECK_THAT(refused(folder / "plain", folder / "a.safetensors", "--model resnet18 --std 0,1,1"),
             Contains("positive"));
  CHECK_THAT(refused(folder / "plain", folder / "a.safetensors", "--model resnet18 --mean 0,nan,0"),
             Contains("mean of channel 1"));
}

TEST_CASE("what decides nothing is left out, whatever its shape", "[weights][program]") {
  const TempFolder folder;
  ForeignFile file(kData / "parity-wrn_28_10.safetensors");
  file.add("sub_block1.layer.0.conv1.weight", "F32", {1, 2}, {1, 2});
  file.add("bn1.num_batches_tracked", "F32", {}, {7});
  file.save(folder / "old.st");
  CHECK_THAT(imported(folder / "old.st", folder / "a.safetensors", "--model wrn_28_10"),
             Contains("naming trades") && Contains("2 that decide nothing"));
  CHECK(all_weights(*loaded(folder / "a.safetensors")) ==
        all_weights(*loaded(kData / "parity-wrn_28_10.safetensors")));
  // Under our own names there is no such group.
  CHECK_THAT(
      refused(folder / "old.st", folder / "b.safetensors", "--model wrn_28_10 --naming ringfort"),
      Contains("1 unknown: sub_block1.layer.0.conv1.weight"));
}

TEST_CASE("numbers of other widths become float32", "[weights]") {
  const auto half = [](uint16_t bits) {
    const NamedArray array{"a", "F16", {1}, std::as_bytes(std::span<const uint16_t>(&bits, 1))};
    return to_floats(array, "f").at(0);
  };
  CHECK(half(0x3C00) == 1.0f);
  CHECK(half(0xC000) == -2.0f);
  CHECK(half(0x3555) == 1365.0f / 4096);
  CHECK(half(0x7BFF) == 65504.0f);
  CHECK(half(0x0400) == std::ldexp(1.0f, -14));
  CHECK(half(0x03FF) == std::ldexp(1023.0f, -24));
  CHECK(half(0x8001) == -std::ldexp(1.0f, -24));
  CHECK((half(0x8000) == 0 && std::signbit(half(0x8000))));
  CHECK((std::isinf(half(0xFC00)) && half(0xFC00) < 0));
  CHECK(std::isnan(half(0x7E00)));
  const double third = 1.0 / 3;
  const uint16_t bits = 0x4049;
  const NamedArray wide{"a", "F64", {1}, std::as_bytes(std::span<const double>(&third, 1))};
  const NamedArray brain{"a", "BF16", {1}, std::as_bytes(std::span<const uint16_t>(&bits, 1))};
  CHECK(to_floats(wide, "f").at(0) == 1.0f / 3);
  CHECK(to_floats(brain, "f").at(0) == 3.140625f);
  const int64_t whole = 3;
  const NamedArray integer{"a", "I64", {1}, std::as_bytes(std::span<const int64_t>(&whole, 1))};
  CHECK_THAT(error_of([&] { to_floats(integer, "f"); }), Contains("f: 'a'") && Contains("I64"));
}

TEST_CASE("files of float64 and bfloat16 are imported", "[weights][program]") {
  const TempFolder folder;
  const fs::path vectors = kData / "parity-resnet18.safetensors";
  ForeignFile file(vectors);
  for (NamedArray& array : file.arrays)
    file.convert<double>(array, "F64", [](float value) { return static_cast<double>(value); });
  file.convert<uint16_t>(file.at("linear.bias"), "BF16", [](float) -> uint16_t { return 0x3F80; });
  file.save(folder / "wide.st");
  imported(folder / "wide.st", folder / "a.safetensors", "--model resnet18");
  const WeightArrays got = read_weights(*loaded(folder / "a.safetensors")),
                     wanted = read_weights(*loaded(vectors));
  for (size_t i = 0; i < got.values.size(); ++i)
    if (got.arrays[i].name == "linear.bias")
      CHECK(got.values[i] == std::vector<float>(10, 1.0f));
    else
      CHECK(got.values[i] == wanted.values[i]);
}

TEST_CASE("arrays that are missing, misshapen or unknown are named", "[weights][program]") {
  const TempFolder folder;
  const fs::path to = folder / "out.safetensors";
  ForeignFile file(kData / "parity-resnet18.safetensors");
  file.at("layer1.0.bn1.weight").name = "layer1.0.norm1.weight";
  file.at("layer1.0.bn1.bias").name = "layer1.0.norm1.bias";
  file.at("layer2.0.bn1.bias").name = "x.1";
  file.at("layer2.0.bn2.bias").name = "x.2";
  file.at("bn1.bias").shape = {1, 2};
  file.save(folder / "a.st");
  const std::string said = refused(folder / "a.st", to, "--model resnet18");
  CHECK_THAT(said,
             Contains("4 missing: layer1.0.bn1.weight, layer1.0.bn1.bias, ") &&
                 Contains(" and 1 more") && Contains("1 of another shape: bn1.bias is (1, 2)") &&
                 Contains("4 unknown: layer1.0.norm1.bias, layer1.0.norm1.weight, x.1 and 1"));
  CHECK_THAT(refused(folder / "a.st", to, ""), Contains("--model"));
  CHECK_THAT(refused(folder / "a.st", to, "--model resnet18 --classes 9"),
             Contains("linear.bias is (10), not (9)"));
  CHECK_THAT(refused(folder / "a.st", to, "--model cnn_small --naming trades"),
             Contains("'trades' has no definition of 'cnn_small'") && Contains("ringfort"));
  CHECK_THAT(refused(folder / "a.st", to, "--model vgg"), Contains("known are"));
  CHECK_THAT(refused(folder / "a.st", to, "--model resnet18 --eps 0.1"), Contains("run folder"));
  CHECK_THAT(refused(folder / "a.st", folder / "run", "--model resnet18"), Contains("--dataset"));
  CHECK_THAT(refused(folder / "b.st", to, "--model resnet18"), Contains("b.st"));
}

TEST_CASE("sizes that no network has are refused before they take memory", "[weights][program]") {
  const TempFolder folder;
  const fs::path to = folder / "out.safetensors", from = folder / "a.st";
  const auto said = [&](const std::string& name, std::vector<int64_t> shape,
                        const std::string& flags = "") {
    ForeignFile file(kData / "parity-resnet18.safetensors");
    file.at(name).shape = std::move(shape);
    file.at(name).bytes = {};
    file.save(from);
    const std::string sentence = refused(from, to, "--model resnet18 " + flags);
    CHECK_THAT(sentence, Contains(from.string()));
    return sentence;
  };
  constexpr int64_t kHuge = int64_t{1} << 40;
  CHECK_THAT(said("linear.weight", {kHuge, 0}), Contains("classes 1099511627776"));
  CHECK_THAT(said("linear.weight", {70000, 0}), Contains("classes 70000"));
  CHECK_THAT(said("linear.weight", {0, 2}), Contains("classes 0"));
  CHECK_THAT(said("linear.weight", {0, kHuge}), Contains("width"));
  CHECK_THAT(said("linear.weight", {0, kHuge}, "--classes 10"), Contains("width"));
  CHECK_THAT(said("linear.weight", {0, 16384}, "--classes 10"), Contains("another shape"));
  CHECK_THAT(said("conv1.weight", {0, 2000, 1, 1}), Contains("channels 2000"));
  CHECK_THAT(said("conv1.weight", {0, kHuge, 1, 1}), Contains("channels 1099511627776"));
  CHECK_THAT(said("conv1.weight", {0, INT64_MAX, 1, 1}), Contains("channels 9223372036854775807"));
  CHECK_THAT(said("conv1.weight", {0, kHuge, kHuge, kHuge}), Contains("channels"));

  // Checkpoints of ours, or what looks like one.
  const auto checkpoint = [&](const std::string& key, const std::string& value) {
    const SafetensorsFile file = load_safetensors(kData / "parity-resnet18.safetensors");
    auto json = nlohmann::json::parse(file.metadata.at(kModelKey));
    json[key] = nlohmann::json::parse(value);
    save_safetensors(from, file.arrays, {{kModelKey, json.dump()}});
    const std::string sentence = error_of([&] { loaded(from); });
    CHECK_THAT(sentence, Contains(from.string()));
    return sentence;
  };
  CHECK_THAT(checkpoint("width", "4096"), Contains("of another shape"));
  CHECK_THAT(checkpoint("width", "2.5"), Contains("width 2.5"));
  CHECK_THAT(checkpoint("classes", "-1"), Contains("classes -1"));
  CHECK_THAT(checkpoint("width", "0"), Contains("width 0"));
  CHECK_THAT(checkpoint("std", "[1e-45, 1, 1]"), Contains("deviation of channel 0"));
  CHECK_THAT(checkpoint("mean", "[0, 1e38, 0]"), Contains("mean of channel 1"));
}

TEST_CASE("many names that end alike are read at once", "[weights][slow]") {
  const auto model = make_model(tiny_spec("resnet18", 2, 8, 3));
  SafetensorsFile file;
  constexpr size_t kArrays = 50000;  // with time by the square of this, ctest gives up
  for (size_t i = 0; i < kArrays; ++i)
    file.arrays.push_back({fmt::format("part{}.conv1.weight", i), "F32", {0}, {}});
  const TempFolder folder;
  save_safetensors(folder / "a.st", file.arrays, {});
  CHECK(recognise(load_safetensors(folder / "a.st"), *model, "").arrays.size() == kArrays);
}

TEST_CASE("what else a training of PyTorch saves is left out or named", "[weights][program]") {
  const TempFolder folder;
  const fs::path to = folder / "out.safetensors";
  ForeignFile file(kData / "parity-resnet18.safetensors");
  for (NamedArray& array : file.arrays) array.name = "module." + array.name;
  file.add("n_averaged", "F32", {}, {7});
  file.save(folder / "averaged.st");
  CHECK_THAT(imported(folder / "averaged.st", to, "--model resnet18"),
             Contains("'module.'") && Contains("1 that decide nothing"));
  fs::remove(to);
  file.add("conv1.weight", "F32", {2, 1}, {1, 2});
  file.save(folder / "twice.st");
  CHECK_THAT(refused(folder / "twice.st", to, "--model resnet18"),
             Contains("both 'conv1.weight' and 'module.conv1.weight'"));
  // One that says it is ours, and is of other names: how to read it is told.
  save_safetensors(folder / "ours.safetensors", file.arrays,
                   load_safetensors(kData / "parity-resnet18.safetensors").metadata);
  CHECK_THAT(error_of([&] { loaded(folder / "ours.safetensors"); }), Contains("ringfort import"));
}

TEST_CASE("nothing that is there is written over by weights", "[weights][program]") {
  const TempFolder folder;
  const fs::path there = folder / "there.safetensors";
  const std::string vectors = (kData / "parity-resnet18.safetensors").string();
  spit(there, {1, 2, 3});
  check_complaint(run_program("import " + vectors + " --output " + there.string()), 1,
                  "there already");
  check_complaint(run_program("export " + vectors + " --output " + there.string()), 1,
                  "there already");
  CHECK(slurp(there) == Bytes{1, 2, 3});
  check_complaint(run_program("export " + vectors + " --naming deepmind --output " +
                              (folder / "new.safetensors").string()),
                  1, "choose ringfort or torchvision");
  check_complaint(run_program("export " + (folder / "no").string() + " --output " +
                              (folder / "new.safetensors").string()),
                  1, "export: there is neither");
  CHECK(folder.entries() == 1);
  check_complaint(run_program("export " + vectors + " --output " + (folder / "e.pt").string()), 1,
                  "end in .safetensors");
  CHECK_FALSE(fs::exists(folder / "e.pt"));
}
