// Line charts as inline SVG, coloured by the page's style sheet so that they follow its light and
// dark colours. No scripts; a point tells its values when the mouse rests on it.
#pragma once

#include <string>
#include <vector>

namespace ringfort {

struct Point {
  double x = 0, y = 0;
};

struct Series {
  std::string name;
  std::string style;          // CSS class: clean, robust, probe, plain
  std::vector<Point> points;  // x ascending; points with a NaN are left out
  bool marks = false;         // a dot at every point
  bool line = true;           // points joined
};

struct Chart {
  std::string title;
  std::string x_label;
  bool y_is_share = false;  // axis from 0 to 100 %
  bool wide = false;        // twice as wide, for the full width of the page
  std::vector<Series> series;
};

// The chart with its title and legend as an HTML <figure>; text is escaped here. Empty when there
// is no finite point.
std::string chart_html(const Chart& chart);

// 3 to 8 round numbers (1, 2, 2.5, 5 times a power of ten apart) from `low` to `high`.
std::vector<double> round_ticks(double low, double high);

}  // namespace ringfort
