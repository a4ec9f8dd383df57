// Reducer: the gradients of all ranks are added up while backward still runs. The flat gradient is
// cut into buckets in the order in which it is completed; a full bucket goes to a thread of its own
// that exchanges it in place. Attack passes never come here.
//
// What is not worth compressing, norm parameters, biases and tiny tensors, travels as it is, in one
// exchange at the end of the step.
//
// Error feedback (Seide et al. 2014; Karimireddy et al. 2019): what encodings leave out on this
// rank is added to its next gradient, times the old learning rate by the new one, so that over time
// nothing is lost from the weights.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "distributed/compressor.h"
#include "distributed/hosts.h"
#include "distributed/power_sgd.h"
#include "engine/params.h"
#include "engine/state_file.h"
#include "kernels/marker.h"

namespace ringfort {

struct ReducerOptions {
  CompressorOptions compressor = {};
  std::optional<Algorithm> algorithm = {};  // empty: the fastest by the cost model
  int64_t bucket_bytes = 25 << 20;          // of float32; the first bucket has at most 1 MiB
  uint64_t seed = 0;
  Link link = {};     // for the cost model
  bool flat = false;  // no difference is made between ranks of one machine and others
  // The machine of each rank; empty: as the transport says.
  std::vector<std::string> hosts = {};
};

// Since they were last read.
struct ReducerStats {
  int64_t steps = 0;
  int64_t bytes_sent = 0;
  ExchangeTimes times;
  double exposed = 0;  // seconds that finish() waited for the thread
};

class Reducer {
 public:
  // exec: of the passes. comm: the reducer's from now on; others use it by run(). Errors: a
  // compressor or algorithm that is not known or not allowed.
  Reducer(Exec& exec, Comm& comm, ParamStore& params, const ReducerOptions& options);
  ~Reducer();
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;

  // What is exchanged and how, with the reason, in one sentence.
  std::string describe() const;
  int rank() const { return comm_.rank(); }
  int ranks() const { return comm_.size(); }

  // Before the pass whose gradient is the step's. step: counted from 0; lr: of its update.
  void begin(int64_t step, double lr);
  // The parameter's gradient is queued on exec; in memory order, each once.
  void ready(ParamId id);
  // Waits until the flat gradient is the sum over the ranks, and `sums` too. Errors: what went
  // wrong in the thread.
  void finish(std::span<double> sums);

  // The flat gradient is summed at once, without feedback: for a gradient that no update is made
  // of.
  void sum_gradient(int64_t step);

  // body on the reducer's thread, after what it has to do; waits for it and rethrows.
  void run(const std::function<void(Comm&)>& body);
  void sum(std::span<double> values, const char* what) {
    run([&](Comm& comm) { comm.sum(values, what); });
  }

  ReducerStats take_stats();

  // What this rank keeps for its next gradient, and the same on all ranks; empty where there is
  // none.
  View feedback() const { return error_ ? error_.view() : View{}; }
  std::vector<NamedView> common_state() const;
  double last_lr() const { return last_lr_; }
  void resume(double last_lr) { last_lr_ = last_lr; }

 private:
  struct Bucket {
    size_t last = 0;             // place in memory order of its last parameter
    int64_t first = 0, end = 0;  // elements of the flat gradient
    int64_t first_chunk = 0;
    std::unique_ptr<Codec> codec, dense;  // dense: inside a machine
    std::unique_ptr<PowerSgd> low_rank;
    std::unique_ptr<Marker> complete;
    std::string what;
  };
  struct Parts;
  void make_buckets(const ParamStore& params, const ReducerOptions& options);
  void close(Bucket bucket, Parts& parts, const ReducerOptions& options);
  Algorithm algorithm_for(const ReducerOptions& options, int64_t elements) const;
  void post(std::function<void()> job);
  void wait();
  void work(const std::stop_token& stop);
  void exchange(Codec& codec, Codec* dense, const ExchangeCall& call);
  // Between how many encodings travel.
  int sharers() const { return hosts_ ? hosts_->count() : comm_.size(); }
  void exchange_bucket(Bucket& bucket, bool feedback);
  void exchange_plain(std::span<double> sums);
  View slice(const View& flat, const Bucket& bucket) const;

  Exec& exec_;
  Comm& comm_;
  ParamStore& params_;
  const Compressor compressor_;
  Exec thread_exec_;
  Exchange exchange_;
  std::optional<Hosts> hosts_;
  Pool pool_;
  Tensor error_;  // laid out as the flat gradient
  std::vector<Bucket> buckets_;
  std::unique_ptr<Codec> plain_;
  std::unique_ptr<Marker> complete_;
  Algorithm algorithm_ = Algorithm::kRing, plain_algorithm_ = Algorithm::kRing;
  int64_t compressed_elements_ = 0, compressed_bytes_ = 0, plain_bytes_ = 0;

  RandomKey key_;
  double last_lr_ = 0;
  float error_factor_ = 1;
  size_t ready_ = 0, posted_ = 0;  // parameters, buckets
  ReducerStats stats_;
  Traffic traffic_before_;
  ExchangeTimes times_before_;

  std::mutex mutex_;  // guards the next three
  std::deque<std::function<void()>> jobs_;
  bool busy_ = false;
  std::exception_ptr error_thrown_;
  std::condition_variable_any changed_;
  std::jthread thread_;  // last: it is stopped and joined before anything it uses goes
};

}  // namespace ringfort
