// Vectors of 64 bytes, elementary functions on them, scratch memory, and small matrix products.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

namespace dncx {

// Vectors of one cache line, and of AVX-512's registers. For a processor with shorter registers the
// compiler splits them.
template <class T>
struct Lanes {
  typedef T Vector __attribute__((vector_size(64)));
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Integer Integers __attribute__((vector_size(64)));
  static constexpr int count = 64 / sizeof(T);
};

template <class T>
using V = typename Lanes<T>::Vector;

template <class T>
inline V<T> load(const T* from) {
  V<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
inline void store(T* to, V<T> v) {
  std::memcpy(to, &v, sizeof v);
}

template <class T>
inline T sum(V<T> v) {
  typedef T Half __attribute__((vector_size(32)));
  typedef T Quarter __attribute__((vector_size(16)));
  Half a, b;
  std::memcpy(&a, &v, 32);
  std::memcpy(&b, reinterpret_cast<const char*>(&v) + 32, 32);
  a += b;
  Quarter c, d;
  std::memcpy(&c, &a, 16);
  std::memcpy(&d, reinterpret_cast<const char*>(&a) + 16, 16);
  c += d;
  T total = 0;
  for (size_t i = 0; i < 16 / sizeof(T); ++i) total += c[i];
  return total;
}

// Loads and stores of the first `count` numbers; the rest of the vector is 0.
template <class T>
inline V<T> load(const T* from, int64_t count) {
  if (count >= Lanes<T>::count) return load(from);
  V<T> v{};
  std::memcpy(&v, from, count * sizeof(T));
  return v;
}

template <class T>
inline void store(T* to, V<T> v, int64_t count) {
  std::memcpy(to, &v, std::min<int64_t>(count, Lanes<T>::count) * sizeof(T));
}

// Copies numbers, and returns the end of the copy. Most runs are a few whole vectors, for which a
// call of memcpy would take longer than the copy.
template <class T>
inline T* copy(const T* from, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + Lanes<T>::count <= count; i += Lanes<T>::count) store(to + i, load(from + i));
  if (i < count) std::memcpy(to + i, from + i, (count - i) * sizeof(T));
  return to + count;
}

template <class T>
inline void zero(T* to, int64_t count) {
  int64_t i = 0;
  for (; i + Lanes<T>::count <= count; i += Lanes<T>::count) store(to + i, V<T>{});
  if (i < count) std::memset(to + i, 0, (count - i) * sizeof(T));
}

template <class T>
struct Exponential {
  V<T> value, minus_one;  // e^x and e^x - 1, each without cancellation
};

// e^x for x <= 0: x = n log 2 + r with a Taylor series in r, and 2^n from its bits.
//
// std::exp works on one number at a time. The series has as many terms as the mantissa can show for
// |r| <= log(2) / 2; log 2 is in two parts, so that n log 2 is exact.
template <class T>
inline Exponential<T> exponential(V<T> x) {
  using Integers = typename Lanes<T>::Integers;
  constexpr bool single = sizeof(T) == 4;
  constexpr int terms = single ? 7 : 13, mantissa = single ? 23 : 52, bias = single ? 127 : 1023;
  constexpr T log2_high = single ? T(0.693359375) : T(0.69314718036912381649);
  constexpr T log2_low = single ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  constexpr T lowest = single ? T(-87) : T(-708);
  // Below, 2^n would leave the range of the exponent.
  x = x < lowest ? V<T>{} + lowest : x;
  Integers n = __builtin_convertvector(x * T(1.44269504088896340736) - T(0.5), Integers);
  V<T> whole = __builtin_convertvector(n, V<T>);
  V<T> r = (x - whole * log2_high) - whole * log2_low;
  V<T> series = V<T>{} + T(1);
  for (int k = terms; k > 1; --k) series = T(1) + series * r * T(1.0 / k);
  series *= r;
  Integers bits = (n + bias) << mantissa;
  V<T> power;
  std::memcpy(&power, &bits, sizeof power);
  return {power + power * series, power * series + (power - 1)};
}

// log x for normal x > 0: x = 2^n m with m between the roots of 1/2 and 2, and the Taylor series of
// log m = 2 artanh((m - 1) / (m + 1)), of which each term is at most 0.03 of the one before.
template <class T>
inline V<T> logarithm(V<T> x) {
  using Integers = typename Lanes<T>::Integers;
  using Integer = typename Lanes<T>::Integer;
  constexpr bool single = sizeof(T) == 4;
  constexpr int terms = single ? 5 : 11, mantissa = single ? 23 : 52;
  constexpr Integer root_of_half = single ? Integer(0x3f3504f3) : Integer(0x3fe6a09e667f3bcd);
  constexpr T log2 = T(0.69314718055994530942);
  Integers bits;
  std::memcpy(&bits, &x, sizeof bits);
  const Integers n = (bits - root_of_half) >> mantissa;
  bits -= n << mantissa;
  V<T> m;
  std::memcpy(&m, &bits, sizeof m);
  const V<T> z = (m - 1) / (m + 1), square = z * z;
  V<T> series = V<T>{} + T(1.0 / (2 * terms + 1));
  for (int k = terms - 1; k >= 0; --k) series = T(1.0 / (2 * k + 1)) + square * series;
  const V<T> result = __builtin_convertvector(n, V<T>) * log2 + 2 * z * series;
  return x < std::numeric_limits<T>::infinity() ? result : x;  // infinity and NaN
}

template <class T>
inline V<T> sigmoid(V<T> x) {
  V<T> e = exponential<T>(x < 0 ? x : -x).value;
  return (x < 0 ? e : V<T>{} + T(1)) / (1 + e);
}

template <class T>
inline V<T> tanh(V<T> x) {
  V<T> m = exponential<T>(x < 0 ? 2 * x : -2 * x).minus_one;
  V<T> magnitude = -m / (2 + m);
  return x < 0 ? -magnitude : magnitude;
}

// Rows of `length` numbers to rows of `padded` and back; the tail of a padded row is 0.
template <class T>
void pad(const T* from, int64_t count, int64_t length, int64_t padded, T* to) {
  for (int64_t i = 0; i < count; ++i) {
    T* end = copy(from + i * length, length, to + i * padded);
    zero(end, padded - length);
  }
}

template <class T>
void unpad(T* to, const T* from, int64_t count, int64_t length, int64_t padded) {
  for (int64_t i = 0; i < count; ++i) copy(from + i * padded, length, to + i * length);
}

// ---- Scratch -------------------------------------------------------------------------------

// Rows of whole vectors, cut from one block that a thread keeps: to allocate them for each step
// would cost more than some of the steps.
template <class T>
class Scratch {
 public:
  void reserve(size_t numbers) {
    if (block_.size() < numbers) block_.resize(numbers);
    next_ = reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(block_.data()) + 63) / 64 * 64);
    // Alignment costs up to 64 bytes, which `reserve`'s callers add.
  }
  T* rows(int64_t count, int64_t padded) {
    T* start = next_;
    next_ += count * padded;
    return start;
  }
  T* zeros(int64_t count, int64_t padded) {
    T* start = rows(count, padded);
    zero(start, count * padded);
    return start;
  }
  T* copy(const T* from, int64_t count, int64_t length, int64_t padded) {
    T* start = rows(count, padded);
    pad(from, count, length, padded, start);
    return start;
  }

 private:
  std::vector<T> block_;
  T* next_ = nullptr;
};

// The vectors of a row of `padded` numbers.
template <class T, class Body>
inline void each_vector(int64_t padded, Body body) {
  for (int64_t j = 0; j < padded; j += Lanes<T>::count) body(j);
}

template <class T>
T dot(const T* a, const T* b, int64_t padded) {
  V<T> total{};
  each_vector<T>(padded, [&](int64_t j) { total += load(a + j) * load(b + j); });
  return sum<T>(total);
}

template <class T>
void add_scaled(T* to, T scale, const T* from, int64_t padded) {
  each_vector<T>(padded, [&](int64_t j) { store(to + j, load(to + j) + scale * load(from + j)); });
}

// ---- Products of a few rows with a matrix ----------------------------------------------------

// How many rows and vectors one pass keeps in registers: totals for kRows x kPanel vectors, and one
// panel of the matrix. AVX-512 has 32 registers of 64 bytes. Others have 16 of 32 bytes, two for
// each vector here.
#ifdef __AVX512F__
constexpr int kRows = 8, kPanel = 2;
#else
constexpr int kRows = 4, kPanel = 1;
#endif

// A matrix [depth, width] to multiply rows with. For many products it is cut into panels of columns,
// each contiguous, so that a pass reads memory in order; packing costs about one product, so that
// for a single one the matrix stays as it is.
template <class T>
class Matrix {
 public:
  static constexpr int64_t kWidth = kPanel * Lanes<T>::count;

  // The matrix as it is, row by row; multiplies one row only.
  void view(int64_t depth, int64_t width, const T* from) {
    depth_ = depth;
    width_ = width;
    view_ = from;
  }

  // The number of row k and column j is from[k * row_stride + j * column_stride].
  void pack(int64_t depth, int64_t width, const T* from, int64_t row_stride, int64_t column_stride) {
    depth_ = depth;
    width_ = (width + kWidth - 1) / kWidth * kWidth;
    numbers_.reset(new T[depth_ * width_]);
    T* to = numbers_.get();
    for (int64_t j = 0; j < width; j += kWidth) {
      const int64_t count = std::min(kWidth, width - j);
      for (int64_t k = 0; k < depth; ++k, to += kWidth)
        for (int64_t i = 0; i < kWidth; ++i)
          to[i] = i < count ? from[k * row_stride + (j + i) * column_stride] : T(0);
    }
  }

  int64_t width() const { return width_; }  // rounded up to whole panels

  // out[rows, width()] += in[rows, depth], with the given distances between rows.
  void multiply(int64_t rows, const T* in, int64_t in_stride, T* out, int64_t out_stride) const {
    if (view_) return multiply_view(in, out);
    int64_t i = 0;
    auto step = [&](auto count) {
      constexpr int ROWS = decltype(count)::value;
      for (; i + ROWS <= rows; i += ROWS)
        multiply_rows<ROWS>(in + i * in_stride, in_stride, out + i * out_stride, out_stride);
    };
    step(std::integral_constant<int, kRows>{});
    step(std::integral_constant<int, 4>{});
    step(std::integral_constant<int, 2>{});
    step(std::integral_constant<int, 1>{});
  }

 private:
  // Goes through the matrix once, in the order of its numbers.
  void multiply_view(const T* in, T* __restrict out) const {
    const T* row = view_;
    int64_t k = 0;
    for (; k + 4 <= depth_; k += 4, row += 4 * width_)
      for (int64_t j = 0; j < width_; ++j)
        out[j] += in[k] * row[j] + in[k + 1] * row[width_ + j] + in[k + 2] * row[2 * width_ + j] +
                  in[k + 3] * row[3 * width_ + j];
    for (; k < depth_; ++k, row += width_)
      for (int64_t j = 0; j < width_; ++j) out[j] += in[k] * row[j];
  }

  template <int ROWS>
  void multiply_rows(const T* in, int64_t in_stride, T* out, int64_t out_stride) const {
    constexpr int lanes = Lanes<T>::count;
    for (int64_t j = 0; j < width_; j += kWidth) {
      V<T> total[ROWS][kPanel];
      for (int i = 0; i < ROWS; ++i)
        for (int p = 0; p < kPanel; ++p) total[i][p] = load(out + i * out_stride + j + p * lanes);
      const T* row = numbers_.get() + j * depth_;
      for (int64_t k = 0; k < depth_; ++k, row += kWidth) {
        V<T> panel[kPanel];
        for (int p = 0; p < kPanel; ++p) panel[p] = load(row + p * lanes);
        for (int i = 0; i < ROWS; ++i)
          for (int p = 0; p < kPanel; ++p) total[i][p] += in[i * in_stride + k] * panel[p];
      }
      for (int i = 0; i < ROWS; ++i)
        for (int p = 0; p < kPanel; ++p) store(out + i * out_stride + j + p * lanes, total[i][p]);
    }
  }

  int64_t depth_ = 0, width_ = 0;
  const T* view_ = nullptr;
  std::unique_ptr<T[]> numbers_;
};

}  // namespace dncx
