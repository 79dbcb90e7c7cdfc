// The buffers of a call, each checked before it is used.
//
// Python makes the buffers and this code indexes them: if the two disagreed on a size, the kernel
// would read or write past the end of one and corrupt memory without a word. So every buffer is
// taken with the name and the number of elements that the kernel expects, and a mismatch ends the
// call with an error before anything is written.
#pragma once

#include <cstdint>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace dncx {

namespace ffi = xla::ffi;

// What Python passed does not fit; `guarded` in native.cc turns it into an error of the call.
struct Mismatch : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class T>
constexpr ffi::DataType kDataType = std::is_same_v<T, float>    ? ffi::DataType::F32
                                    : std::is_same_v<T, double> ? ffi::DataType::F64
                                                                : ffi::DataType::S32;

inline int64_t product(const std::vector<int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{1}, std::multiplies<int64_t>());
}

// An attribute of the call.
template <class T>
T attribute(const ffi::Dictionary& attributes, const char* name) {
  auto found = attributes.get<T>(name);
  if (!found.has_value()) throw Mismatch(std::string("attribute ") + name + " is missing");
  return *found;
}

// The name of a buffer, put together only if an error needs it.
struct Name {
  Name(const char* name) : name(name) {}  // NOLINT: a name is a string
  Name(const char* prefix, const char* name) : prefix(prefix), name(name) {}
  Name(const char* name, int64_t number) : name(name), number(number) {}

  std::string text() const {
    return std::string(prefix) + name + (number < 0 ? "" : " " + std::to_string(number));
  }

  const char* prefix = "";
  const char* name;
  int64_t number = -1;
};

// The arguments or the results of a call, taken one after the other.
//
// Axes in front of those that a handler knows come from vmap. All buffers have as many. An
// argument may have length 1 there, if it is the same for all groups; `group` counts the groups,
// the last axis fastest.
template <class List>
class Buffers {
 public:
  explicit Buffers(List list, std::vector<int64_t> axes = {}, int64_t group = 0)
      : list_(list), axes_(std::move(axes)), group_(group) {}

  size_t size() const { return list_.size(); }

  ffi::AnyBuffer at(size_t i) const {
    if (i >= list_.size())
      throw Mismatch(kind() + " " + std::to_string(i) + " is missing, there are " +
                     std::to_string(list_.size()));
    if constexpr (kResults) return **list_.template get<ffi::AnyBuffer>(i);
    else return *list_.template get<ffi::AnyBuffer>(i);
  }

  // The length of an axis, counted from the last.
  int64_t axis(size_t i, size_t from_last) const {
    auto shape = at(i).dimensions();
    if (shape.size() < from_last)
      throw Mismatch(kind() + " " + std::to_string(i) + " has " + std::to_string(shape.size()) +
                     " axes, expected " + std::to_string(from_last) + " or more");
    return shape[shape.size() - from_last];
  }

  // The next buffer, which must have `count` elements in every group.
  template <class T>
  T* take(const Name& name, int64_t count) {
    const ffi::AnyBuffer array = at(next_++);
    auto label = [&] { return kind() + " '" + name.text() + "'"; };
    if (array.element_type() != kDataType<std::remove_const_t<T>>) throw Mismatch(label() + " has another dtype");
    const auto shape = array.dimensions();
    if (shape.size() < axes_.size()) throw Mismatch(label() + " has no axis for vmap");
    int64_t found = 1;
    for (size_t k = axes_.size(); k < shape.size(); ++k) found *= shape[k];
    if (found != count)
      throw Mismatch(label() + " has " + std::to_string(found) + " elements, expected " +
                     std::to_string(count));
    int64_t place = 0, rest = group_, stride = 1;
    for (size_t k = axes_.size(); k-- > 0; rest /= axes_[k]) {
      const bool same_for_all = !kResults && shape[k] == 1;
      if (shape[k] != axes_[k] && !same_for_all)
        throw Mismatch(label() + " has length " + std::to_string(shape[k]) + " along axis " +
                       std::to_string(k) + ", expected " + std::to_string(axes_[k]));
      if (shape[k] > 1) place += rest % axes_[k] * stride;
      stride *= shape[k];
    }
    return static_cast<T*>(array.untyped_data()) + place * count;
  }

  // Refuses buffers that nobody took.
  void end() const {
    if (next_ != list_.size())
      throw Mismatch("there are " + std::to_string(list_.size()) + " " + kind() + "s, expected " +
                     std::to_string(next_));
  }

 private:
  static constexpr bool kResults = std::is_same_v<List, ffi::RemainingRets>;
  static std::string kind() { return kResults ? "result" : "argument"; }

  List list_;
  std::vector<int64_t> axes_;
  int64_t group_;
  size_t next_ = 0;
};

using Arguments = Buffers<ffi::RemainingArgs>;
using Results = Buffers<ffi::RemainingRets>;

// The axes that vmap put in front of the last two of the first argument; each is as long as in any
// argument, or 0 if it is 0 in one.
inline std::vector<int64_t> axes_of_vmap(const Arguments& arguments) {
  const size_t rank = arguments.at(0).dimensions().size();
  if (rank < 2) throw Mismatch("argument 0 has " + std::to_string(rank) + " axes, expected 2 or more");
  std::vector<int64_t> axes(rank - 2, 1);
  bool empty = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto shape = arguments.at(i).dimensions();
    if (shape.size() < axes.size())
      throw Mismatch("argument " + std::to_string(i) + " has no axis for vmap");
    for (size_t k = 0; k < axes.size(); ++k) {
      empty |= shape[k] == 0;
      axes[k] = std::max(axes[k], shape[k]);
    }
  }
  if (empty) axes.assign(axes.size(), 0);
  return axes;
}

}  // namespace dncx
