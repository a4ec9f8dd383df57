#include "tools/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace ringfort {
namespace {

// Columns of the terminal; a longer line would wrap and could not be taken back.
size_t columns(std::FILE* out) {
  winsize size{};
  const bool known = ::ioctl(::fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 100;
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const int64_t whole = std::llround(std::clamp(seconds, 0.0, 1e9));
  const int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60);
  return fmt::format("{}:{:02}", minutes, whole % 60);
}

Progress::Progress(std::FILE* out, bool terminal, int epochs)
    : out_(out), terminal_(terminal), epochs_(epochs) {}

Progress::Progress(std::FILE* out, int epochs)
    : Progress(out, ::isatty(::fileno(out)) == 1, epochs) {}

Progress::~Progress() {
  if (passing_) std::fputc('\n', out_);
  std::fflush(out_);
}

void Progress::print_line(const std::string& line) {
  fmt::print(out_, "{}{}\n", passing_ ? "\r\033[K" : "", line);
  std::fflush(out_);
  passing_ = false;
}

void Progress::print_passing(const std::string& line) {
  if (!terminal_) return;
  fmt::print(out_, "\r{:.{}}\033[K", line, columns(out_) - 1);
  std::fflush(out_);
  passing_ = true;
}

void Progress::on_start(const std::string& header) { print_line(header); }

void Progress::on_step(const StepRecord& record) {
  if (record.probe_accuracy) robust_ = record.probe_accuracy;
  print_passing(fmt::format("epoch {:.2f}/{}  {:.0f} images/s  ETA {}  loss {:.3f}  lr {:.4f}{}",
                            record.epoch, epochs_, record.images_per_second,
                            duration_text(record.eta_seconds), record.loss, record.lr,
                            robust_ ? "  robust " + percent(*robust_) : ""));
}

void Progress::on_epoch(const EpochRecord& record) {
  robust_ = record.robust_accuracy;
  std::string held_out;
  if (record.clean_accuracy && record.robust_accuracy)
    held_out = fmt::format("clean {:>6}  robust {:>6}{}  ", percent(*record.clean_accuracy),
                           percent(*record.robust_accuracy), record.best ? " (best)" : "       ");
  print_line(fmt::format("epoch {:>{}}/{}  loss {:.3f}  {}{:.0f} images/s  {}", record.epoch,
                         std::to_string(epochs_).size(), epochs_, record.train_loss, held_out,
                         record.images_per_second, duration_text(record.seconds)));
}

void Progress::on_message(const std::string& sentence) { print_line(sentence); }

}  // namespace ringfort
