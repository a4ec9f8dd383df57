// The report's style sheet: one set of colours by variables, exchanged where the reader prefers
// dark.
#include "tools/report_parts.h"

namespace ringfort {

std::string_view report_style() {
  return R"css(
:root {
  color-scheme: light dark;
  --page: #faf9f6; --card: #ffffff; --ink: #1d2329; --soft: #5f6b76; --rule: #e3e1da;
  --clean: #3b6fb6; --robust: #0f766e; --probe: #c27803; --faint: #9aa5ae; --miss: #b4432f;
  --held-rgb: 15 118 110; --lost-rgb: 200 84 52; --fooled: #d9775a; --wrong: #c9cdd1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1b2125; --ink: #e6e9eb; --soft: #97a3ad; --rule: #2c343a;
    --clean: #7aa7e6; --robust: #3fb8a9; --probe: #e3a341; --faint: #66727b; --miss: #ec8a72;
    --held-rgb: 45 160 146; --lost-rgb: 214 98 66; --fooled: #d9775a; --wrong: #4a545c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 56px; }
header { margin-bottom: 28px; }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 10px; }
p { margin: 0; }
.brand { color: var(--robust); font-weight: 650; letter-spacing: 0.08em; font-size: 12px;
  text-transform: uppercase; }
.subtitle, .lead, .label, .below, footer { color: var(--soft); }
.lead { max-width: 75ch; margin-bottom: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; }
.tile, .chart, .example, .settings table, pre { background: var(--card);
  border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 14px 18px; }
.tile .value { font-size: 34px; line-height: 1.25; font-weight: 620; letter-spacing: -0.02em; }
.tile .below { font-size: 13px; min-height: 1.5em; }
.tile.robust .value { color: var(--robust); }
.tile.clean .value { color: var(--clean); }
.outcome { margin: 20px 0 12px; }
.bar { display: flex; height: 18px; border-radius: 9px; overflow: hidden; gap: 2px; }
.bar i { flex-basis: 0; }
i.held { background: var(--robust); } i.fooled { background: var(--fooled); }
i.wrong { background: var(--wrong); } i.update { background: var(--clean); }
.notice { border-left: 3px solid var(--rule); padding: 4px 12px; margin: 10px 0;
  color: var(--soft); overflow-wrap: anywhere; }
.notice.said { border-color: var(--miss); color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: 13px; color: var(--soft);
  margin-top: 6px; }
.legend b { color: var(--ink); font-weight: 600; }
.swatch { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
.swatch.clean { background: var(--clean); } .swatch.robust { background: var(--robust); }
.swatch.probe { background: var(--probe); } .swatch.faint { background: var(--faint); }
.charts { display: grid; grid-template-columns: repeat(2, 1fr); gap: 14px; }
.charts + .lead { margin-top: 24px; }
.chart { margin: 0; padding: 14px 16px 8px; min-width: 0; }
.chart:first-child { grid-column: 1 / -1; }
.chart figcaption { font-weight: 620; }
.chart svg { width: 100%; height: auto; display: block; margin-top: 6px; }
svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .axis { stroke: var(--faint); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .line.clean { stroke: var(--clean); } svg .line.robust { stroke: var(--robust); }
svg .line.probe { stroke: var(--probe); stroke-width: 1.5; }
svg .line.faint { stroke: var(--faint); stroke-width: 1.5; }
svg .mark { stroke: var(--card); stroke-width: 1; }
svg .mark.clean { fill: var(--clean); } svg .mark.robust { fill: var(--robust); }
svg .mark.probe { fill: var(--probe); } svg .mark.faint { fill: var(--faint); }
.examples { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); }
.example { padding: 10px 14px 12px; }
.example > p { font-weight: 600; }
.example > p span { color: var(--soft); font-weight: 400; font-size: 12px; float: right;
  line-height: 22px; }
.example > div { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px; }
.example figure { margin: 0; min-width: 0; font-size: 13px; text-align: center; }
.example small { color: var(--soft); font-size: 11px; }
.example img { width: 100%; display: block; border-radius: 4px; image-rendering: pixelated; }
.example figcaption { margin-top: 4px; color: var(--soft); line-height: 1.3; }
.example figcaption.right { color: var(--robust); }
.example figcaption.miss { color: var(--miss); }
.right::before { content: "✓ "; } .miss::before { content: "✗ "; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; }
.confusion { border-collapse: separate; border-spacing: 2px; }
.confusion th { font-weight: 500; text-align: right; padding: 0 8px; white-space: nowrap;
  color: var(--soft); }
.confusion th.up { height: 96px; padding: 0; vertical-align: bottom; text-align: center; }
.confusion th.up span { writing-mode: vertical-rl; transform: rotate(180deg);
  padding-top: 6px; display: inline-block; }
.confusion td { width: 54px; height: 34px; text-align: center; border-radius: 4px;
  background: rgb(var(--lost-rgb) / calc(var(--a, 0) * 1.25 + 0.03)); }
.confusion td.held { background: rgb(var(--held-rgb) / calc(var(--a, 0) * 0.95 + 0.05)); }
.confusion td.deep { color: #ffffff; }
.confusion td.sum { background: none; width: 72px; color: var(--soft); }
.side { display: flex; flex-wrap: wrap; gap: 20px 44px; align-items: flex-end; }
.list { flex: 1 1 280px; max-width: 460px; }
.list th { font-weight: 500; color: var(--soft); }
.list th, .list td { text-align: left; padding: 3px 18px 3px 0;
  border-bottom: 1px solid var(--rule); }
.list td:last-child, .list th:last-child { text-align: right; padding-right: 0; }
pre { padding: 12px 16px; margin: 0 0 14px; overflow-x: auto; font-size: 13px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.settings { columns: 3 300px; column-gap: 14px; }
.settings table { width: 100%; break-inside: avoid; margin-bottom: 14px; border-spacing: 0;
  border-collapse: separate; padding: 0 16px 10px; }
.settings caption { text-align: left; font-weight: 620; padding: 0 0 4px 2px; }
.settings tr:first-child > * { padding-top: 10px; }
.settings th { text-align: left; font-weight: 400; color: var(--soft); padding: 2px 12px 2px 0;
  vertical-align: top; white-space: nowrap; }
.settings td { text-align: right; overflow-wrap: anywhere; }
footer { margin-top: 40px; font-size: 13px; border-top: 1px solid var(--rule); padding-top: 12px; }
@media (max-width: 720px) {
  .charts { grid-template-columns: 1fr; } main { padding: 24px 14px; }
  .tile .value { font-size: 28px; }
}
@media print { body { background: #ffffff; } }
)css";
}

}  // namespace ringfort
