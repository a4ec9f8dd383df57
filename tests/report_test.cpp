// The report: the page holds the numbers and images that decode to the right pixels. PNG and base64
// are read by decoders of our own, so that the writers are not checked against themselves.
#include "tools/report.h"

#include <zlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "engine/files.h"
#include "tests/example_run.h"
#include "tests/temp_folder.h"
#include "tools/chart.h"
#include "tools/evaluation_file.h"
#include "tools/html.h"
#include "tools/png.h"
#include "tools/recipe_file.h"
#include "tools/report_parts.h"

using namespace ringfort;
using namespace ringfort::test;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

// ------------------

std::string decode_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  REQUIRE(text.size() % 4 == 0);
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    REQUIRE(digits.find(c) != std::string::npos);
    bits = bits << 6 | static_cast<uint32_t>(digits.find(c));
    count += 6;
    if (count >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xFF);
  }
  return out;
}

uint32_t u32(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
  return value;
}

struct Image {
  uint32_t height = 0, width = 0;
  int channels = 0;
  std::vector<uint8_t> pixels;
};

// Walks the chunks, checks every CRC, inflates, and undoes filter 0.
Image decode_png(const std::string& png) {
  REQUIRE(png.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  Image image;
  std::string data, last;
  for (size_t at = 8; at < png.size();) {
    const uint32_t length = u32(png, at);
    last = png.substr(at + 4, 4);
    const std::string body = png.substr(at + 8, length);
    REQUIRE(body.size() == length);
    const auto* checked = reinterpret_cast<const Bytef*>(png.data() + at + 4);
    CHECK(u32(png, at + 8 + length) == ::crc32(0, checked, length + 4));
    if (last == "IHDR") {
      image.width = u32(body, 0);
      image.height = u32(body, 4);
      CHECK(body[8] == 8);
      image.channels = body[9] == 0 ? 1 : 3;
      CHECK((body[9] == 0 || body[9] == 2));
    }
    if (last == "IDAT") data += body;
    at += 12 + length;
  }
  CHECK(last == "IEND");
  const size_t row = image.width * static_cast<size_t>(image.channels) + 1;
  std::vector<uint8_t> raw(image.height * row);
  uLongf size = raw.size();
  REQUIRE(::uncompress(raw.data(), &size, reinterpret_cast<const Bytef*>(data.data()),
                       data.size()) == Z_OK);
  REQUIRE(size == raw.size());
  for (size_t y = 0; y < image.height; ++y) {
    REQUIRE(raw[y * row] == 0);
    image.pixels.insert(image.pixels.end(), raw.begin() + static_cast<std::ptrdiff_t>(y * row + 1),
                        raw.begin() + static_cast<std::ptrdiff_t>((y + 1) * row));
  }
  return image;
}

std::vector<Image> images_of(const std::string& page) {
  const std::string prefix = "src=\"data:image/png;base64,";
  std::vector<Image> images;
  for (size_t at = 0; (at = page.find(prefix, at)) != std::string::npos;) {
    at += prefix.size();
    images.push_back(decode_png(decode_base64(page.substr(at, page.find('"', at) - at))));
  }
  return images;
}

}  // namespace

TEST_CASE("png: what is written decodes to the same pixels", "[tools]") {
  for (const int channels : {1, 3}) {
    std::vector<uint8_t> pixels;
    for (int i = 0; i < 5 * 7 * channels; ++i) pixels.push_back(static_cast<uint8_t>(i * 37));
    const Image image = decode_png(encode_png(5, 7, channels, std::span<const uint8_t>(pixels)));
    CHECK(image.height == 5);
    CHECK(image.width == 7);
    CHECK(image.channels == channels);
    CHECK(image.pixels == pixels);
  }
  const std::vector<float> reals{-1, 0, 0.5, 1, 2, NAN};
  const Image image = decode_png(encode_png(1, 6, 1, std::span<const float>(reals)));
  CHECK(image.pixels == std::vector<uint8_t>{0, 0, 128, 255, 255, 0});
  const std::vector<uint8_t> few(3);
  CHECK_THAT(error_of([&] { encode_png(2, 2, 1, std::span<const uint8_t>(few)); }), Contains("3"));
}

TEST_CASE("png: base64 as in RFC 4648", "[tools]") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64(std::string("\xff\xfe\x00", 3)) == "//4A");
}

TEST_CASE("html: escaping, intervals, counts, shell words", "[tools]") {
  CHECK(escape("<a href=\"x\">'&'\x01</a>") ==
        "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  // Wilson's interval solves (p - share)^2 = z^2 p (1 - p) / n: put the ends back in.
  for (const double share : {0.0, 0.7, 1.0}) {
    const Interval i = wilson(share, 1000);
    for (const double p : {i.low, i.high}) {
      const bool at_the_rim = (share == 0 && p == i.low) || (share == 1 && p == i.high);
      if (!at_the_rim)
        CHECK((p - share) * (p - share) == Approx(1.959963985 * 1.959963985 * p * (1 - p) / 1000));
    }
    CHECK(i.low <= share);
    CHECK(i.high >= share);
  }
  CHECK(grouped(60000) == "60,000");
  CHECK(grouped(999) == "999");
  CHECK(grouped(-1234567) == "-1,234,567");
  CHECK(shell_word("runs/a") == "runs/a");
  CHECK(shell_word("it's") == "'it'\\''s'");
}

TEST_CASE("chart: round ticks, gaps where numbers are missing", "[tools]") {
  CHECK(round_ticks(0, 1) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
  for (const auto& [low, high] :
       std::vector<std::pair<double, double>>{{0, 15}, {1e-6, 3e-6}, {-5, 7}}) {
    const std::vector<double> ticks = round_ticks(low, high);
    CHECK((ticks.size() >= 3 && ticks.size() <= 8));
    CHECK(std::is_sorted(ticks.begin(), ticks.end()));
  }
  const Series loss{"loss", "plain", {{0, 2}, {1, NAN}, {2, 1}}, true};
  const std::string html = chart_html({"<Loss>", "epoch", false, false, {loss}});
  CHECK_THAT(html, Contains("&lt;Loss&gt;") && !Contains("nan"));
  CHECK(chart_html({"Loss", "epoch", false, false, {{"loss", "plain", {{0, NAN}}}}}).empty());
}

TEST_CASE("report: the numbers, the names and images that decode", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  {
    RunFolder run(path, example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(run);
  }
  const Evaluation e = example_evaluation();
  write_evaluation(path / kEvaluationFile, e);
  CHECK(write_report(path / "") == path / kReportFile);  // "run/" is the same folder
  const std::string page = read_text(path / kReportFile);
  const Interval interval = wilson(e.robust_accuracy, e.n);
  CHECK_THAT(page, Contains("87.5 %") && Contains("62.5 %") && Contains("81.2 %"));
  CHECK_THAT(page, Contains(fmt::format("95 % interval {:.1f} to {:.1f} %", 100 * interval.low,
                                        100 * interval.high)));
  CHECK_THAT(page, Contains("PGD-50-10") && Contains("8/255") && Contains("1:24") &&
                       Contains("9.8.7") && Contains("the probe fell"));
  // Each phase of a step by its own name, as long as it took.
  CHECK_THAT(page, Contains("waiting for images <b>1.0 ms</b>") &&
                       Contains("attack <b>500.0 ms</b>") &&
                       Contains("training pass <b>250.0 ms</b>") &&
                       Contains("update <b>2.0 ms</b>") && Contains("210 MB"));
  for (const char* size : {"flex-grow:1\"", "flex-grow:500\"", "flex-grow:250\"", "flex-grow:2\""})
    CHECK_THAT(page, Contains(size));
  CHECK_THAT(page, Contains("&lt;b&gt;box&lt;/b&gt;") && Contains("star &amp; co") &&
                       Contains("a header &lt;with&gt; brackets"));
  CHECK_THAT(page, !Contains("<b>box") && !Contains("<script") && !Contains("http") &&
                       !Contains("src=\"/") && !Contains("nan"));
  CHECK_THAT(page, Contains("ringfort evaluate") && Contains("--attack-steps 50 --restarts 10"));
  for (const RecipeField& field : recipe_fields())
    CHECK_THAT(page, Contains("<th>" + field.key + "</th>"));

  const std::vector<Image> images = images_of(page);
  REQUIRE(images.size() == 6);  // two examples: original, change, attacked
  for (size_t i = 0; i < images.size(); ++i) {
    CHECK(images[i].height == 2);
    CHECK(images[i].width == 3);
    CHECK(images[i].channels == 3);
  }
  for (size_t i = 0; i < 18; ++i) {
    CHECK(images[0].pixels[i] == std::lround(255 * e.examples[0].x_nat[i]));
    CHECK(images[2].pixels[i] == std::lround(255 * e.examples[0].x_adv[i]));
  }
  // The largest change fills the range around grey: eps up is white, eps down black.
  CHECK(images[1].pixels[0] == 255);
  CHECK(images[1].pixels[1] == 0);
}

TEST_CASE("report: an attack is told as it was run, and so is how to run it again", "[tools]") {
  Evaluation e = example_evaluation();
  const auto words = [&] { return attack_in_words(e); };
  e.attack = "fgsm", e.steps = 1, e.restarts = 1, e.alpha = e.eps;
  CHECK_THAT(words(), Contains("to the edge of the ball from the image itself; each"));
  e.alpha = 2.0 / 255, e.restarts = 5;
  CHECK_THAT(words(), Contains("of 2/255 from the image itself, then from 4 random starts") &&
                          !Contains("edge"));
  e.attack = "fgsm-rs";
  CHECK_THAT(words(), Contains("of 2/255 from each of 5 random starts"));
  e.restarts = 1;
  CHECK_THAT(words(), Contains("of 2/255 from a random start;"));

  e.restarts = 5, e.data_dir = "else where";
  RunData run;
  run.recipe = example_recipe();
  run.evaluation = e;
  const std::string again = reproduce_html(run, "runs/a");
  for (const char* setting :
       {"ringfort train runs/a/recipe.toml", "evaluate runs/a-again", "--attack fgsm-rs",
        "--norm Linf", "--eps 8/255", "--attack-alpha 2/255", "--attack-steps 1", "--restarts 5",
        "--n 8", "--seed 18446744073709551615", "--attack-dtype float32"})
    CHECK_THAT(again, Contains(setting));
  CHECK_THAT(again, Contains("--data-dir") && Contains("else where"));
  run.evaluation->data_dir = run.recipe->data_dir;  // the recipe says it
  CHECK_THAT(reproduce_html(run, "runs/a"), !Contains("--data-dir") && !Contains("--norms"));
  CHECK_THAT(words(), !Contains("batch norms"));
  e.norms = "main";
  run.evaluation = e;
  CHECK_THAT(words(), Contains("through the main batch norms"));
  CHECK_THAT(reproduce_html(run, "runs/a"), Contains("--norms main"));
}

TEST_CASE("report: parts that are missing or broken are left out with a note", "[tools]") {
  const TempFolder folder;
  const fs::path path = folder / "run";
  {
    RunFolder run(path, example_recipe(), ExistingRun::kRefuse, quiet());
    train_a_little(run);
  }
  const auto page = [&] { return read_text(write_report(path)); };
  CHECK_THAT(page(), Contains("evaluation.json is not there") && Contains("Training loss") &&
                         !Contains("Confusion"));
  write_evaluation(path / kEvaluationFile, example_evaluation());
  fs::remove(path / kExamplesFile);
  CHECK_THAT(page(), Contains("Images are left out") && Contains("Confusion under attack"));
  std::string metrics = read_text(path / kMetricsFile);
  write_text_atomic(path / kMetricsFile, metrics + "{\"kind\":\"st");  // cut off while writing
  CHECK_THAT(page(), !Contains("metrics.jsonl:"));
  write_text_atomic(path / kMetricsFile, "{]\n" + metrics);
  CHECK_THAT(page(), Contains("metrics.jsonl: 1 of 7 lines") && Contains("Training loss") &&
                         Contains("(parse error at line 1"));
  write_text_atomic(path / kSummaryFile, "epoch,step\n1,x\n");
  write_text_atomic(path / kRecipeFile, "lr = ");
  fs::remove(path / kMetricsFile);
  write_text_atomic(path / kEvaluationFile, "{}");
  CHECK_THAT(page(), Contains("summary.csv: 1 of 2 lines") && Contains("recipe.toml is left out") &&
                         Contains("metrics.jsonl is not there") &&
                         Contains("evaluation.json is left out"));
  fs::create_directory(folder / "nothing");
  CHECK_THAT(error_of([&] { write_report(folder / "nothing"); }), Contains("holds no run"));
  CHECK_THAT(error_of([&] { write_report(folder / "absent"); }), Contains("not a folder"));
}
