// Transport: moves bytes between the ranks of a job and knows nothing of what they mean. Threads of
// one process (thread_transport.h), MPI (mpi_transport.h) and NCCL (nccl_transport.h) are the three
// there are. Comm (comm.h) makes of it what the rest of Ringfort talks to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/error.h"

namespace ringfort {

// The job cannot go on because of another rank; started again, it may well.
class CommError : public Error {
 public:
  using Error::Error;
};

// Streams of messages between two ranks; those of one channel arrive in the order they were sent.
enum class Channel { kHeader, kPayload, kNotice };

// A message on its way. Its memory stays where it is until done() has said true.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Looks, and never waits. Errors: the message was of another length than its receiver expected.
  virtual bool done() = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;  // from 0
  virtual int size() const = 0;
  virtual std::string name() const = 0;  // "MPI (Open MPI 4.1.4)"
  // Names the machine of this rank: ranks that share one can share memory.
  virtual std::string host() const = 0;
  // Whether payloads lie in memory of a CUDA device; headers and notices never do.
  virtual bool on_device() const { return false; }

  virtual std::unique_ptr<Transfer> send(int to, Channel channel,
                                         std::span<const std::byte> bytes) = 0;
  virtual std::unique_ptr<Transfer> receive(int from, Channel channel,
                                            std::span<std::byte> bytes) = 0;

  // Gives way to others while nothing is done, for a moment.
  virtual void rest() = 0;
  // Ends the whole job, all ranks of it, with this exit code, where the transport can; else
  // returns.
  virtual void abort(int /*exit_code*/) {}
};

}  // namespace ringfort
