#include "tools/stop_signal.h"

#include <csignal>
#include <initializer_list>

namespace ringfort {
namespace {

volatile std::sig_atomic_t came = 0;

extern "C" void remember(int) { came = 1; }

}  // namespace

void listen_for_stop_signals() {
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

bool stop_signal_came() { return came != 0; }

}  // namespace ringfort
