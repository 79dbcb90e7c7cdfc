// One step of the memory access for one example, forward and backward.
//
// The equations are those of dncx/access.py for one write head, in the same order and under the
// same names. A step may work in place: an input and the output of the same name may be one array.
#pragma once

#include "addressing.h"

namespace dncx {

struct Options {
  double cosine_epsilon, allocation_epsilon, least_mask;
  bool write_gradient;
};

// What a step takes (AccessState, then Interface), in the order of the fields.
enum Input {
  kMemory, kReadWeights, kWriteWeights, kLink, kPrecedence, kUsage,
  kReadKeys, kReadStrengths, kWriteKey, kWriteStrength, kErase, kWriteVector, kFreeGate,
  kAllocationGate, kWriteGate, kReadMode, kReadMasks, kWriteMask, kForwardSharpness,
  kBackwardSharpness, kInputs
};
// What it gives: AccessState again, the words read, the rest of AccessTrace, and the forward and
// backward weights before they were sharpened.
enum Output {
  kReadWords = kUsage + 1, kAllocation, kWriteContent, kReadContent, kForward, kBackward,
  kRetention, kRawForward, kRawBackward, kOutputs
};
// What of that the backward step takes, in its order.
constexpr int kKept[] = {kReadWeights, kWriteWeights, kAllocation, kWriteContent, kReadContent,
                         kForward, kBackward, kRetention, kRawForward, kRawBackward};
constexpr int kKeptCount = sizeof kKept / sizeof *kKept;

// Their names in errors, in the same order.
constexpr const char* kInputNames[] = {
    "memory", "read weights", "write weights", "link", "precedence weights", "usage",
    "read keys", "read strengths", "write keys", "write strengths", "erase vectors",
    "write vectors", "free gate", "allocation gate", "write gate", "read mode", "read masks",
    "write masks", "forward sharpness", "backward sharpness"};
constexpr const char* kOutputNames[] = {
    "memory", "read weights", "write weights", "link", "precedence weights", "usage",
    "read words", "allocation weights", "write content weights", "read content weights",
    "forward weights", "backward weights", "retention", "raw forward weights",
    "raw backward weights"};
static_assert(sizeof kInputNames / sizeof *kInputNames == kInputs);
static_assert(sizeof kOutputNames / sizeof *kOutputNames == kOutputs);

// How many numbers each of them has: 0 for the parts of an option that is off, such as the links.
// Python passes no arrays for those.
inline int64_t size_of_input(const Sizes& z, int which) {
  const int64_t N = z.slots, W = z.word, R = z.reads, L = z.links, S = z.sharpen;
  const int64_t sizes[] = {N * W, R * N, N, L * N * N, L * N, N, R * W, R, W, 1, W, W, R, 1, 1,
                           modes_of(z) * R, z.masks * R * W, z.masks * W, S * R, S * R};
  return sizes[which];
}

inline int64_t size_of_output(const Sizes& z, int which) {
  const int64_t N = z.slots, W = z.word, R = z.reads, L = z.links, S = z.sharpen;
  const int64_t rest[] = {R * W, N, N, R * N, L * R * N, L * R * N, z.wipe * N, S * R * N, S * R * N};
  return which < kReadWords ? size_of_input(z, which) : rest[which - kReadWords];
}

// How many numbers a forward step processes: the memory and the link. Without links, comparisons of
// usages, sixteen at a time, take the place of the link.
inline int64_t numbers_of_step(const Sizes& z) {
  return z.slots * (z.word + (z.links ? z.slots : z.slots / 16));
}

// How much of a slot stays in use after reading: the product of 1 - f r over the read heads.
template <class T, int R>
inline T retention(const T* free_gate, const T* read, int64_t stride) {
  T kept = 1 - free_gate[0] * read[0];
  for (int h = 1; h < R; ++h) kept *= 1 - free_gate[h] * read[h * stride];
  return kept;
}

// u + (1 - u) w
template <class T>
inline T usage_after_write(T usage, T write) {
  return usage + (1 - usage) * (1 - (1 - write));
}

// memory <- kept * memory * (1 - w e^T) + w v^T. kept: the retention of the slots, or null for 1.
template <class T>
void erase_and_write(const Sizes& z, const T* memory, const T* kept, const T* write, const T* erase,
                     const T* vector, T* new_memory) {
  for (int64_t n = 0; n < z.slots; ++n)
    each_vector<T>(z.padded_word, [&](int64_t j) {
      V<T> m = load(memory + n * z.padded_word + j);
      if (kept) m *= kept[n];
      store(new_memory + n * z.padded_word + j,
            m * (1 - write[n] * load(erase + j)) + write[n] * load(vector + j));
    });
}

// The new link and precedence, and the read weighting as the mix of the three modes. `read` is the
// previous step's read weighting, and is replaced.
template <class T, int R>
void follow_links(const Sizes& z, const T* const* in, T* const* out, const T* write,
                  const T* content, T* read, Scratch<T>& scratch) {
  const int64_t N = z.slots, P = z.padded;
  T* precedence = scratch.copy(in[kPrecedence], 1, N, P);
  T *forward = scratch.zeros(R, P), *backward = scratch.zeros(R, P);
  link_step<T, R>(z, in[kLink], out[kLink], write, precedence, read, forward, backward,
                  scratch.rows(4, P));
  if (z.sharpen) {
    unpad(out[kRawForward], forward, R, N, P);
    unpad(out[kRawBackward], backward, R, N, P);
    T* logs = scratch.rows(1, P);
    for (int h = 0; h < R; ++h) {
      sharpen(z, forward + h * P, in[kForwardSharpness][h], forward + h * P, logs);
      sharpen(z, backward + h * P, in[kBackwardSharpness][h], backward + h * P, logs);
    }
  }
  unpad(out[kForward], forward, R, N, P);
  unpad(out[kBackward], backward, R, N, P);
  T written = 0;
  for (int64_t n = 0; n < N; ++n) written += write[n];
  for (int64_t n = 0; n < N; ++n)
    out[kPrecedence][n] = (1 - written) * precedence[n] + write[n];
  for (int h = 0; h < R; ++h) {
    const T* mode = in[kReadMode] + 3 * h;
    for (int64_t j = h * P; j < h * P + N; ++j)
      read[j] = mode[0] * backward[j] + mode[1] * forward[j] + mode[2] * content[j];
  }
}

template <class T, int R>
void forward(const Sizes& z, const Options& options, const T* const* in, T* const* out,
             Scratch<T>& scratch) {
  const int64_t N = z.slots, P = z.padded, PW = z.padded_word;
  const T cosine_epsilon = T(options.cosine_epsilon);
  const T least_mask = T(options.least_mask);
  scratch.reserve((N + R + 2 + lookup_words(R + 1)) * PW +
                  (4 * R + 9 + lookup_slots(R + 1)) * P + 16);
  T* memory = scratch.copy(in[kMemory], N, z.word, PW);
  const Lookup<T> for_write = make_lookup(z, in[kWriteKey], in[kWriteStrength], in[kWriteMask], 1,
                                          least_mask, scratch);
  const Lookup<T> for_read = make_lookup(z, in[kReadKeys], in[kReadStrengths], in[kReadMasks], R,
                                         least_mask, scratch);
  T* erase = scratch.copy(in[kErase], 1, z.word, PW);
  T* vector = scratch.copy(in[kWriteVector], 1, z.word, PW);
  T* read = scratch.copy(in[kReadWeights], R, N, P);
  T *free = scratch.rows(1, P), *allocation = scratch.rows(1, P);
  T *content = scratch.rows(R, P), *write = scratch.zeros(1, P);
  static thread_local std::vector<int32_t> order;
  order.resize(N);

  const T *previous = in[kWriteWeights], *free_gate = in[kFreeGate];
  T* usage = out[kUsage];
  for (int64_t n = 0; n < N; ++n) {
    const T retained = retention<T, R>(free_gate, read + n, P);
    usage[n] = usage_after_write(in[kUsage][n], previous[n]) * retained;
    if (z.wipe) out[kRetention][n] = retained;
  }
  allocation_weights(z, usage, T(options.allocation_epsilon), free, order.data(), allocation);
  copy(allocation, N, out[kAllocation]);
  content_weights<T, 1>(z, memory, for_write, cosine_epsilon, content);
  copy(content, N, out[kWriteContent]);
  const T gate = *in[kAllocationGate], write_gate = *in[kWriteGate];
  for (int64_t n = 0; n < N; ++n)
    write[n] = write_gate * (gate * allocation[n] + (1 - gate) * content[n]);
  copy(write, N, out[kWriteWeights]);
  erase_and_write(z, memory, z.wipe ? out[kRetention] : nullptr, write, erase, vector, memory);
  unpad(out[kMemory], memory, N, z.word, PW);

  content_weights<T, R>(z, memory, for_read, cosine_epsilon, content);
  unpad(out[kReadContent], content, R, N, P);
  if (z.links)
    follow_links<T, R>(z, in, out, write, content, read, scratch);
  else
    copy(content, R * P, read);
  unpad(out[kReadWeights], read, R, N, P);
  T* words = scratch.rows(R, PW);
  each_vector<T>(PW, [&](int64_t j) {
    V<T> total[R] = {};
    for (int64_t n = 0; n < N; ++n)
      for (int h = 0; h < R; ++h) total[h] += read[h * P + n] * load(memory + n * PW + j);
    for (int h = 0; h < R; ++h) store(words + h * PW + j, total[h]);
  });
  unpad(out[kReadWords], words, R, z.word, PW);
}

// The gradient of `follow_links`. d_mix: by the new read weighting. d_content: set. d_write and
// d_read, by this step's write and the previous step's read weighting: added to.
template <class T, int R>
void follow_links_backward(const Sizes& z, const T* const* in, const T* const* kept,
                           const T* const* d_out, T* const* d_in, const T* write, const T* read,
                           const T* content, const T* d_mix, T* d_content, T* d_write, T* d_read,
                           Scratch<T>& scratch) {
  const int64_t N = z.slots, P = z.padded;
  const T *forward = kept[5], *backward = kept[6], *raw_forward = kept[8], *raw_backward = kept[9];
  const T* precedence = scratch.copy(in[kPrecedence], 1, N, P);
  T *d_forward = scratch.zeros(R, P), *d_backward = scratch.zeros(R, P);
  for (int h = 0; h < R; ++h) {
    const T* mode = in[kReadMode] + 3 * h;
    T* d_mode = d_in[kReadMode] + 3 * h;
    d_mode[0] = d_mode[1] = d_mode[2] = 0;
    for (int64_t n = 0; n < N; ++n) {
      const int64_t k = h * N + n, j = h * P + n;
      d_mode[0] += d_mix[j] * backward[k];
      d_mode[1] += d_mix[j] * forward[k];
      d_mode[2] += d_mix[j] * content[j];
      d_backward[j] = d_out[kBackward][k] + mode[0] * d_mix[j];
      d_forward[j] = d_out[kForward][k] + mode[1] * d_mix[j];
      d_content[j] = d_out[kReadContent][k] + mode[2] * d_mix[j];
    }
    if (!z.sharpen) continue;
    const int64_t k = h * N, j = h * P;
    d_in[kForwardSharpness][h] = sharpen_backward(
        z, raw_forward + k, in[kForwardSharpness][h], forward + k, d_forward + j);
    d_in[kBackwardSharpness][h] = sharpen_backward(
        z, raw_backward + k, in[kBackwardSharpness][h], backward + k, d_backward + j);
  }
  // The precedence weighting: p <- (1 - sum w) p + w.
  T* d_precedence = scratch.zeros(1, P);
  T written = 0, d_written = 0;
  for (int64_t n = 0; n < N; ++n) {
    written += write[n];
    d_written -= d_out[kPrecedence][n] * precedence[n];
  }
  for (int64_t n = 0; n < N; ++n) {
    d_precedence[n] = (1 - written) * d_out[kPrecedence][n];
    d_write[n] += d_out[kPrecedence][n] + d_written;
  }
  link_step_backward<T, R>(z, in[kLink], d_out[kLink], d_in[kLink], write, precedence, read,
                           {d_forward, d_backward, d_write, d_precedence, d_read},
                           scratch.rows(4, P));
  copy(d_precedence, N, d_in[kPrecedence]);
}

// in: the inputs of `forward`; kept: of its outputs, those in kKept; d_out: the gradients by all
// of its outputs; d_in: set to those by its inputs.
template <class T, int R>
void backward(const Sizes& z, const Options& options, const T* const* in, const T* const* kept,
              const T* const* d_out, T* const* d_in, Scratch<T>& scratch) {
  const int64_t N = z.slots, P = z.padded, PW = z.padded_word;
  const T cosine_epsilon = T(options.cosine_epsilon);
  const T least_mask = T(options.least_mask);
  scratch.reserve((3 * N + R + 4 + lookup_words(R + 1) + gradient_words(R + 1)) * PW +
                  (7 * R + 16 + lookup_slots(R + 1) + gradient_slots(R + 1)) * P + 16);
  T* memory = scratch.copy(in[kMemory], N, z.word, PW);
  const Lookup<T> for_write = make_lookup(z, in[kWriteKey], in[kWriteStrength], in[kWriteMask], 1,
                                          least_mask, scratch);
  const Lookup<T> for_read = make_lookup(z, in[kReadKeys], in[kReadStrengths], in[kReadMasks], R,
                                         least_mask, scratch);
  T* erase = scratch.copy(in[kErase], 1, z.word, PW);
  T* vector = scratch.copy(in[kWriteVector], 1, z.word, PW);
  T* read = scratch.copy(in[kReadWeights], R, N, P);
  const T* new_read = kept[0];
  T* write = scratch.copy(kept[1], 1, N, P);
  const T *allocation = kept[2], *write_content = kept[3];
  T* read_content = scratch.copy(kept[4], R, N, P);
  const T* retained = z.wipe ? kept[7] : nullptr;

  T* new_memory = scratch.rows(N, PW);
  erase_and_write(z, memory, retained, write, erase, vector, new_memory);
  T* d_memory = scratch.copy(d_out[kMemory], N, z.word, PW);
  T* d_words = scratch.copy(d_out[kReadWords], R, z.word, PW);

  // The words read, and the read weighting, which is a mix of the modes or content alone.
  T* d_mix = scratch.zeros(R, P);
  for (int h = 0; h < R; ++h)
    for (int64_t n = 0; n < N; ++n) {
      const int64_t k = h * N + n;
      d_mix[h * P + n] = d_out[kReadWeights][k] + dot(d_words + h * PW, new_memory + n * PW, PW);
      add_scaled(d_memory + n * PW, new_read[k], d_words + h * PW, PW);
    }
  T *d_write = scratch.copy(d_out[kWriteWeights], 1, N, P), *d_read = scratch.zeros(R, P);
  T* d_content = scratch.zeros(R, P);
  if (z.links) {
    follow_links_backward<T, R>(z, in, kept, d_out, d_in, write, read, read_content, d_mix,
                                d_content, d_write, d_read, scratch);
  } else {
    // The share of content is 1 for any interface.
    zero(d_in[kReadMode], R);
    for (int h = 0; h < R; ++h)
      for (int64_t n = 0; n < N; ++n)
        d_content[h * P + n] = d_out[kReadContent][h * N + n] + d_mix[h * P + n];
  }
  content_weights_backward<T, R>(
      z, new_memory, for_read, cosine_epsilon, least_mask, read_content, d_content,
      {d_memory, d_in[kReadKeys], d_in[kReadStrengths], d_in[kReadMasks]}, scratch);

  // Erasing and writing.
  T *d_erase = scratch.zeros(1, PW), *d_vector = scratch.zeros(1, PW);
  T* d_retention = scratch.zeros(1, P);
  for (int64_t n = 0; n < N; ++n) {
    V<T> d_slot{}, d_retained{};
    const T share = retained ? retained[n] : T(1);
    each_vector<T>(PW, [&](int64_t j) {
      V<T> g = load(d_memory + n * PW + j), e = load(erase + j), m = load(memory + n * PW + j);
      V<T> erased = g * m * share, d_share = g * (1 - write[n] * e);
      d_slot += g * load(vector + j) - erased * e;
      d_retained += d_share * m;
      store(d_erase + j, load(d_erase + j) - write[n] * erased);
      store(d_vector + j, load(d_vector + j) + write[n] * g);
      store(d_memory + n * PW + j, d_share * share);
    });
    d_write[n] += sum<T>(d_slot);
    if (retained) d_retention[n] = d_out[kRetention][n] + sum<T>(d_retained);
  }
  unpad(d_in[kErase], d_erase, 1, z.word, PW);
  unpad(d_in[kWriteVector], d_vector, 1, z.word, PW);

  // The write weighting from its gates.
  const T gate = *in[kAllocationGate], write_gate = *in[kWriteGate];
  T d_gate = 0, d_write_gate = 0;
  T *d_allocation = scratch.zeros(1, P), *d_write_content = scratch.zeros(1, P);
  for (int64_t n = 0; n < N; ++n) {
    d_write_gate += d_write[n] * (gate * allocation[n] + (1 - gate) * write_content[n]);
    d_gate += d_write[n] * write_gate * (allocation[n] - write_content[n]);
    d_allocation[n] = d_out[kAllocation][n] + d_write[n] * write_gate * gate;
    d_write_content[n] = d_out[kWriteContent][n] + d_write[n] * write_gate * (1 - gate);
  }
  *d_in[kWriteGate] = d_write_gate;
  *d_in[kAllocationGate] = d_gate;
  T* content = scratch.copy(write_content, 1, N, P);
  content_weights_backward<T, 1>(
      z, memory, for_write, cosine_epsilon, least_mask, content, d_write_content,
      {d_memory, d_in[kWriteKey], d_in[kWriteStrength], d_in[kWriteMask]}, scratch);
  unpad(d_in[kMemory], d_memory, N, z.word, PW);

  // Allocation, and the usage (u + (1 - u) w) * product of (1 - f r).
  const T *free_gate = in[kFreeGate], *previous = in[kWriteWeights];
  T *usage = scratch.rows(1, P), *d_usage = scratch.copy(d_out[kUsage], 1, N, P);
  T *free = scratch.rows(1, P), *before = scratch.rows(1, P);
  for (int64_t n = 0; n < N; ++n)
    usage[n] = usage_after_write(in[kUsage][n], previous[n]) * retention<T, R>(free_gate, read + n, P);
  static thread_local std::vector<int32_t> order;
  order.resize(N);
  allocation_weights_backward(z, usage, T(options.allocation_epsilon), d_allocation, free,
                              order.data(), before, d_usage);
  T d_free_gate[R] = {};
  for (int64_t n = 0; n < N; ++n) {
    T old = in[kUsage][n], in_use = usage_after_write(old, previous[n]);
    T keep[R], up_to[R + 1];
    up_to[0] = 1;
    for (int h = 0; h < R; ++h) {
      keep[h] = 1 - free_gate[h] * read[h * P + n];
      up_to[h + 1] = up_to[h] * keep[h];
    }
    T d_in_use = d_usage[n] * up_to[R], after = d_usage[n] * in_use + d_retention[n];
    for (int h = R - 1; h >= 0; --h) {
      T d_keep = up_to[h] * after;
      d_free_gate[h] -= d_keep * read[h * P + n];
      d_read[h * P + n] -= d_keep * free_gate[h];
      after *= keep[h];
    }
    d_in[kUsage][n] = d_in_use * (1 - previous[n]);
    d_in[kWriteWeights][n] = options.write_gradient ? d_in_use * (1 - old) : T(0);
  }
  copy(d_free_gate, R, d_in[kFreeGate]);
  unpad(d_in[kReadWeights], d_read, R, N, P);
}

}  // namespace dncx
