#include "tools/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/html.h"

namespace ringfort {
namespace {

// In CSS pixels at the page's full width, so that text has the same size in all charts.
constexpr double kNarrow = 510, kWide = 1060, kHeight = 280;
constexpr double kLeft = 52, kRight = 14, kTop = 12, kBottom = 40;
constexpr size_t kMostPoints = 1200;  // more than the picture has columns

struct Span {
  double low = 0, high = 0;
  double share(double value) const { return (value - low) / (high - low); }
};

// From data to the picture's units.
struct Frame {
  Span x, y;
  double width = kNarrow;
  double px(double value) const { return kLeft + x.share(value) * (width - kLeft - kRight); }
  double py(double value) const {
    return kHeight - kBottom - y.share(value) * (kHeight - kTop - kBottom);
  }
};

std::vector<Point> finite_points(const std::vector<Point>& points) {
  std::vector<Point> kept;
  for (const Point& p : points)
    if (std::isfinite(p.x) && std::isfinite(p.y)) kept.push_back(p);
  if (kept.size() <= kMostPoints) return kept;
  std::vector<Point> thinned;  // every k-th, and the last
  const size_t stride = (kept.size() + kMostPoints - 1) / kMostPoints;
  for (size_t i = 0; i < kept.size(); i += stride) thinned.push_back(kept[i]);
  thinned.push_back(kept.back());
  return thinned;
}

void widen(Span& span, double value, bool& first) {
  if (first) span = {value, value};
  first = false;
  span.low = std::min(span.low, value);
  span.high = std::max(span.high, value);
}

// Axes start at 0 unless the data lies far from it.
Span from_zero(Span span) {
  if (span.low > 0 && span.low < 0.6 * span.high) span.low = 0;
  if (span.high - span.low < 1e-12) span = {span.low - 0.5, span.high + 0.5};
  return span;
}

// Up to the next tick, so that the topmost line carries a number.
Span to_round(Span span) {
  const std::vector<double> ticks = round_ticks(span.low, span.high);
  if (ticks.size() > 1 && span.high > ticks.back())
    span.high = 2 * ticks.back() - ticks[ticks.size() - 2];
  return span;
}

std::string axes(const Frame& frame, const Chart& chart) {
  std::string out;
  for (const double y : round_ticks(frame.y.low, frame.y.high)) {
    const std::string text =
        chart.y_is_share ? fmt::format("{:.0f} %", 100 * y) : fmt::format("{:.4g}", y);
    out += fmt::format(R"(<line class="grid" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>)"
                       R"(<text x="{3:.1f}" y="{4:.1f}" text-anchor="end">{5}</text>)",
                       kLeft, frame.width - kRight, frame.py(y), kLeft - 8, frame.py(y) + 4, text);
  }
  for (const double x : round_ticks(frame.x.low, frame.x.high))
    out += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{:.4g}</text>)",
                       frame.px(x), kHeight - kBottom + 18, x);
  out += fmt::format(R"(<line class="axis" x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}"/>)",
                     kLeft, frame.width - kRight, kHeight - kBottom);
  return out + fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>)",
                           (kLeft + frame.width - kRight) / 2, kHeight - 4, escape(chart.x_label));
}

std::string value_text(double y, bool is_share) {
  return is_share ? percent(y) : fmt::format("{:.4g}", y);
}

std::string draw(const Frame& frame, const Series& series, const Chart& chart) {
  std::string out, path;
  for (const Point& p : series.points)
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", frame.px(p.x), frame.py(p.y));
  if (series.line && series.points.size() > 1)
    out += fmt::format(R"(<path class="line {}" d="{}"/>)", series.style, path);
  if (series.marks || series.points.size() == 1)
    for (const Point& p : series.points)
      out += fmt::format(R"(<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="3.2">)"
                         R"(<title>{}: {} at {:.4g}</title></circle>)",
                         series.style, frame.px(p.x), frame.py(p.y), escape(series.name),
                         value_text(p.y, chart.y_is_share), p.x);
  return out;
}

std::string legend(const Chart& chart) {
  std::string out;
  for (const Series& series : chart.series)
    if (!series.points.empty())
      out += fmt::format(R"(<span class="key"><i class="swatch {}"></i>{} <b>{}</b></span>)",
                         series.style, escape(series.name),
                         value_text(series.points.back().y, chart.y_is_share));
  return out;
}

}  // namespace

std::vector<double> round_ticks(double low, double high) {
  const double rough = (high - low) / 5;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0})
    if (factor * power >= rough * 0.999) {
      step = factor * power;
      break;
    }
  std::vector<double> ticks;
  const double slack = step * 1e-6;
  for (int i = 0; i < 12; ++i) {
    const double tick = (std::ceil((low - slack) / step) + i) * step;
    if (tick > high + slack) break;
    ticks.push_back(std::abs(tick) < slack ? 0 : tick);
  }
  return ticks;
}

std::string chart_html(const Chart& chart) {
  Chart shown = chart;
  Frame frame;
  if (chart.wide) frame.width = kWide;
  bool first_x = true, first_y = true;
  for (Series& series : shown.series) {
    series.points = finite_points(series.points);
    for (const Point& p : series.points) {
      widen(frame.x, p.x, first_x);
      widen(frame.y, p.y, first_y);
    }
  }
  if (first_x) return "";
  frame.x = from_zero(frame.x);
  frame.y = shown.y_is_share ? Span{0, 1} : to_round(from_zero(frame.y));
  std::string body = axes(frame, shown);
  for (const Series& series : shown.series) body += draw(frame, series, shown);
  return fmt::format(
      "<figure class=\"chart\"><figcaption>{}</figcaption><div class=\"legend\">{}</div>"
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}</svg></figure>\n",
      escape(shown.title), legend(shown), frame.width, kHeight, escape(shown.title), body);
}

}  // namespace ringfort
