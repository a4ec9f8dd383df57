// Progress of a training run, for people: one line that updates itself on a terminal; in a file or
// a pipe only a line per epoch. It prints what it is told and decides nothing.
#pragma once

#include <cstdio>
#include <optional>
#include <string>

#include "adversarial/observer.h"

namespace ringfort {

class Progress : public TrainingObserver {
 public:
  // `out` is kept and must outlive this object. `terminal`: the line updates itself.
  Progress(std::FILE* out, bool terminal, int epochs);
  // Asks the system whether `out` is a terminal.
  Progress(std::FILE* out, int epochs);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() override;  // leaves the cursor on a fresh line

  void on_start(const std::string& header) override;
  void on_step(const StepRecord& record) override;
  void on_epoch(const EpochRecord& record) override;
  void on_message(const std::string& sentence) override;

 private:
  void print_line(const std::string& line);     // stays
  void print_passing(const std::string& line);  // is replaced by the next

  std::FILE* out_;
  bool terminal_;
  int epochs_;
  bool passing_ = false;          // a passing line is on the screen
  std::optional<double> robust_;  // the newest robust accuracy on held-out images
};

// "0:07", "12:40", "1:02:03".
std::string duration_text(double seconds);

}  // namespace ringfort
