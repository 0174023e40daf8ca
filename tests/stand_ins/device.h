// A GPU that computes nothing, for the real CUDA build of PyTorch: what its parts share.
//
// Calls are checked, counted and answered with success. Kernels do nothing, so no number that comes
// from the device means anything; copies and memset are real, on memory of the host. The rules of
// stream capture are those that the CUDA runtime documents: what is illegal ends the capture with
// an error, and is noted as broken.
#pragma once

#include <mutex>
#include <string>

namespace device {
extern std::recursive_mutex mutex;

// A number of the environment, or what stands for it.
int setting(const char *variable, int otherwise);
// One more call of this kind.
void count(const std::string &call);
// Work on a stream: a node of the capture that the stream is in, else work that is done. 0 or a cudaError_t.
int enqueue(void *stream, const std::string &work);
// A call that may not be made while a capture is under way, as cudaMalloc. 0 or a cudaError_t.
int potentially_unsafe(const char *call);
}  // namespace device

#define ALONE std::lock_guard<std::recursive_mutex> alone(device::mutex)
