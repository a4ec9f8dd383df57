// Sections of the report that show what the attack did: images and the confusion matrix.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/html.h"
#include "tools/png.h"
#include "tools/report_parts.h"

namespace ringfort {
namespace {

constexpr size_t kMostExamples = 24;
constexpr size_t kLargestMatrix = 20;  // classes; beyond, the commonest confusions are listed
constexpr size_t kMostConfusions = 10;

double largest_change(const Evaluation& e) {
  double largest = 0;
  for (const AdversarialExample& x : e.examples)
    for (size_t i = 0; i < x.x_nat.size(); ++i)
      largest = std::max(largest, std::abs(double(x.x_adv[i]) - x.x_nat[i]));
  return largest;
}

std::string picture(const Evaluation& e, const std::vector<float>& pixels, const std::string& top,
                    const std::string& caption, const char* style) {
  const std::string png = encode_png(e.height, e.image_width, e.channels, std::span(pixels));
  return fmt::format(
      "<figure><small>{}</small><img src=\"{}\" alt=\"{}\"><figcaption class=\"{}\">{}"
      "</figcaption></figure>",
      escape(top), png_data_uri(png), escape(top), style, escape(caption));
}

std::string example_html(const Evaluation& e, const AdversarialExample& x, double magnified) {
  std::vector<float> change(x.x_nat.size());
  for (size_t i = 0; i < change.size(); ++i)
    change[i] = static_cast<float>(0.5 + magnified * (double(x.x_adv[i]) - x.x_nat[i]));
  const auto name = [&](int32_t index) { return e.class_names[static_cast<size_t>(index)]; };
  const auto style = [&](int32_t prediction) { return prediction == x.label ? "right" : "miss"; };
  return fmt::format("<div class=\"example\"><p>{} <span>test image {}</span></p><div>",
                     escape(name(x.label)), x.sample) +
         picture(e, x.x_nat, "original", name(x.clean_prediction), style(x.clean_prediction)) +
         picture(e, change, "change", fmt::format("× {:.3g}", magnified), "") +
         picture(e, x.x_adv, "attacked", name(x.adversarial_prediction),
                 style(x.adversarial_prediction)) +
         "</div></div>\n";
}

// counts[true * classes + predicted under attack]
std::vector<int64_t> confusion_counts(const Evaluation& e) {
  const size_t classes = e.class_names.size();
  std::vector<int64_t> counts(classes * classes);
  for (size_t i = 0; i < e.labels.size(); ++i)
    ++counts[static_cast<size_t>(e.labels[i]) * classes +
             static_cast<size_t>(e.adversarial_predictions[i])];
  return counts;
}

std::string matrix_cell(int64_t count, int64_t total, bool diagonal, const std::string& title) {
  const double share = total > 0 ? double(count) / double(total) : 0;
  return fmt::format("<td class=\"{}{}\" style=\"--a:{:.3f}\" title=\"{}\">{}</td>",
                     diagonal ? "held" : "lost", share > 0.55 ? " deep" : "", share, escape(title),
                     count > 0 ? grouped(count) : "");
}

std::string matrix_html(const Evaluation& e, const std::vector<int64_t>& counts) {
  const size_t classes = e.class_names.size();
  std::vector<int64_t> withstood(classes);
  for (size_t i = 0; i < e.labels.size(); ++i)
    withstood[static_cast<size_t>(e.labels[i])] += e.robust_correct[i] != 0 ? 1 : 0;
  std::string out = "<div class=\"scroll\"><table class=\"confusion\"><thead><tr><th></th>";
  for (const std::string& name : e.class_names)
    out += fmt::format("<th class=\"up\"><span>{}</span></th>", escape(name));
  out += "<th class=\"up\"><span>withstood</span></th></tr></thead>\n<tbody>";
  for (size_t row = 0; row < classes; ++row) {
    int64_t total = 0;
    for (size_t column = 0; column < classes; ++column) total += counts[row * classes + column];
    out += fmt::format("<tr><th>{}</th>", escape(e.class_names[row]));
    for (size_t column = 0; column < classes; ++column) {
      const int64_t count = counts[row * classes + column];
      out += matrix_cell(count, total, row == column,
                         fmt::format("{} of {} {} taken for {}", count, total, e.class_names[row],
                                     e.class_names[column]));
    }
    const double held = total > 0 ? double(withstood[row]) / double(total) : NAN;
    out += fmt::format("<td class=\"sum\">{}</td></tr>\n", percent(held));
  }
  return out + "</tbody></table></div>\n";
}

std::string commonest_html(const Evaluation& e, const std::vector<int64_t>& counts) {
  const size_t classes = e.class_names.size();
  std::vector<size_t> order;
  for (size_t i = 0; i < counts.size(); ++i)
    if (i / classes != i % classes && counts[i] > 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return counts[a] > counts[b]; });
  order.resize(std::min(order.size(), kMostConfusions));
  std::string out =
      "<table class=\"list\"><tr><th>true class</th><th>taken "
      "for</th><th>images</th></tr>";
  for (const size_t i : order)
    out += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                       escape(e.class_names[i / classes]), escape(e.class_names[i % classes]),
                       grouped(counts[i]));
  return out + "</table>\n";
}

}  // namespace

std::string examples_html(const Evaluation& e) {
  if (e.examples.empty()) return "";
  const double largest = largest_change(e);
  const double magnified = largest > 0 ? 0.5 / largest : 1;
  std::string out =
      "<section><h2>Images and their adversarial versions</h2><p class=\"lead\">Under each image "
      "is "
      "what the model takes it for. The change is shown magnified around grey.</p>"
      "<div class=\"examples\">\n";
  for (size_t i = 0; i < std::min(e.examples.size(), kMostExamples); ++i)
    out += example_html(e, e.examples[i], magnified);
  return out + "</div></section>\n";
}

std::string confusion_html(const Evaluation& e) {
  const std::vector<int64_t> counts = confusion_counts(e);
  const bool small = e.class_names.size() <= kLargestMatrix;
  return fmt::format(
             "<section><h2>Confusion under attack</h2><p class=\"lead\">{} test images{}</p>\n",
             grouped(e.n),
             small ? ": the true class in rows, what the attack made of it in columns, and the "
                     "commonest "
                     "confusions."
                   : ".") +
         "<div class=\"side\">" + (small ? matrix_html(e, counts) : "") +
         commonest_html(e, counts) + "</div></section>\n";
}

}  // namespace ringfort
