// SIGINT and SIGTERM as a wish to stop: the training finishes its step and saves its state. A
// second one ends the program at once, as always.
#pragma once

namespace ringfort {

void listen_for_stop_signals();
bool stop_signal_came();

}  // namespace ringfort
