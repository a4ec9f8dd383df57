#include "tools/report.h"

#include <fmt/format.h>

#include "engine/files.h"
#include "engine/version.h"
#include "tools/html.h"
#include "tools/recipe_file.h"
#include "tools/report_parts.h"
#include "tools/run_folder.h"

namespace ringfort {
namespace {

namespace fs = std::filesystem;

std::string title_of(const RunData& run, const fs::path& folder) {
  if (run.evaluation) return run.evaluation->model + " on " + run.evaluation->dataset;
  if (run.recipe) return run.recipe->model + " on " + run.recipe->dataset;
  return folder.filename().string();
}

std::string subtitle_of(const RunData& run, const fs::path& folder) {
  std::string text = "Run " + folder.string();
  if (!run.imported_from.empty())
    return text + " · weights imported from " + run.imported_from + ", not trained here";
  if (run.recipe)
    text += fmt::format(" · trained by {}, {} epochs, {} ball of radius {}", run.recipe->method,
                        run.recipe->epochs, run.recipe->norm, format_real(run.recipe->eps));
  return text;
}

std::string notices_html(const RunData& run) {
  std::string out;
  for (const std::string& message : run.messages)
    out += fmt::format("<p class=\"notice said\">{}</p>\n", escape(message));
  for (const std::string& note : run.notes)
    out += fmt::format("<p class=\"notice\">{}</p>\n", escape(note));
  return out;
}

std::string footer_html(const RunData& run) {
  std::string out = fmt::format("<footer>Made by ringfort {}", escape(version()));
  if (!run.version.empty()) out += " · trained with " + escape(run.version);
  if (run.evaluation) out += " · evaluated with " + escape(run.evaluation->version);
  return out + "</footer>\n";
}

std::string page(const RunData& run, const fs::path& folder) {
  const std::string title = escape(title_of(run, folder));
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{} · Ringfort</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n"
      "<header><p class=\"brand\">Ringfort</p><h1>{}</h1><p class=\"subtitle\">{}</p></header>\n",
      title, report_style(), title, escape(subtitle_of(run, folder)));
  out += headline_html(run) + notices_html(run) + curves_html(run);
  if (run.evaluation) out += examples_html(*run.evaluation) + confusion_html(*run.evaluation);
  out += reproduce_html(run, folder);
  if (run.recipe && run.imported_from.empty()) out += settings_html(*run.recipe);
  return out + footer_html(run) + "</main>\n</body>\n</html>\n";
}

}  // namespace

fs::path write_report(const fs::path& run_folder) {
  // "runs/quickstart/" names the same folder, and has no file name.
  const fs::path folder = run_folder.has_filename() ? run_folder : run_folder.parent_path();
  const fs::path file = folder / kReportFile;
  write_text_atomic(file, page(read_run(folder), folder));
  return file;
}

}  // namespace ringfort
