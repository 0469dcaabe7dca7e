// What Posterion needs of one Stan program: data sets opened by number, and three functions of a number and a point that
// XLA calls. Compiled together with the C++ that stanc prints (-DPROGRAM_CPP='"program.cpp"'), one library per program.
//
// A data set is an instance of Stan's model class, held in a table under a small number. That number is an ordinary
// argument of compiled XLA programs, so that they serve other data of the same program without being compiled again, in
// this process and, through XLA's cache on disk, in the next.

// Before Stan's own, whose place they take.
#include "tanh.hpp"

#include "model_base_crtp.hpp"

#include <stan/io/validate_dims.hpp>
#include <stan/io/var_context.hpp>
#include <stan/math/rev.hpp>
#include PROGRAM_CPP
#include <stan/services/util/create_rng.hpp>

#include <xla/ffi/api/ffi.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <complex>
#include <cstdint>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#define POSTERION_PUBLIC extern "C" __attribute__((visibility("default")))

namespace {

namespace ffi = xla::ffi;
using Vector = Eigen::VectorXd;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// ---- data sets

struct Array {
  bool whole;  // integers; these lie in both vectors
  std::vector<double> reals;
  std::vector<int> ints;
  std::vector<size_t> shape;
};

// How a program takes some of its rows: data whose first axis is rows, the data that counts them, and the data by which
// it multiplies their likelihood.
struct Batching {
  std::vector<std::string> names;
  std::string size, scale;
  size_t num_rows = 0;

  bool cuts(const std::string& name) const { return std::find(names.begin(), names.end(), name) != names.end(); }
};

// Data as Stan asks for them, all rows or some.
class Context final : public stan::io::var_context {
 public:
  using Arrays = std::map<std::string, Array>;

  explicit Context(const Arrays& arrays) : arrays_(arrays) {}
  Context(const Arrays& arrays, const Batching& batching, const int32_t* rows, size_t count)
      : arrays_(arrays), batching_(&batching), rows_(rows), count_(count) {}

  bool contains_r(const std::string& name) const override { return arrays_.count(name) > 0; }
  bool contains_i(const std::string& name) const override { return contains_r(name) && arrays_.at(name).whole; }

  std::vector<double> vals_r(const std::string& name) const override {
    if (batching_ && name == batching_->scale) return {static_cast<double>(batching_->num_rows) / count_};
    if (batching_ && name == batching_->size) return {static_cast<double>(count_)};
    return contains_r(name) ? some(name, arrays_.at(name).reals) : std::vector<double>();
  }

  std::vector<int> vals_i(const std::string& name) const override {
    if (batching_ && name == batching_->size) return {static_cast<int>(count_)};
    return contains_i(name) ? some(name, arrays_.at(name).ints) : std::vector<int>();
  }

  std::vector<std::complex<double>> vals_c(const std::string&) const override { return {}; }  // refused before

  std::vector<size_t> dims_r(const std::string& name) const override {
    if (!contains_r(name)) return {};
    auto shape = arrays_.at(name).shape;
    if (batching_ && batching_->cuts(name)) shape[0] = count_;
    return shape;
  }

  std::vector<size_t> dims_i(const std::string& name) const override {
    return contains_i(name) ? dims_r(name) : std::vector<size_t>();
  }

  void names_r(std::vector<std::string>& names) const override { list(names, false); }
  void names_i(std::vector<std::string>& names) const override { list(names, true); }

  void validate_dims(const std::string& stage, const std::string& name, const std::string& base_type,
                     const std::vector<size_t>& declared) const override {
    for (size_t length : declared)
      if (length == 0) return;  // an empty array may be written as any other
    stan::io::validate_dims(*this, stage, name, base_type, declared);
  }

 private:
  template <typename T>
  std::vector<T> some(const std::string& name, const std::vector<T>& all) const {
    if (!batching_ || !batching_->cuts(name)) return all;
    std::vector<T> cut;  // the first index runs fastest
    cut.reserve(all.size() / batching_->num_rows * count_);
    for (size_t start = 0; start < all.size(); start += batching_->num_rows)
      for (size_t i = 0; i < count_; ++i) cut.push_back(all[start + rows_[i]]);
    return cut;
  }

  void list(std::vector<std::string>& names, bool whole) const {
    names.clear();
    for (const auto& [name, array] : arrays_)
      if (array.whole == whole) names.push_back(name);
  }

  const Arrays& arrays_;
  const Batching* batching_ = nullptr;
  const int32_t* rows_ = nullptr;
  size_t count_ = 0;
};

using Model = stan::model::model_base;

struct DataSet {
  Context::Arrays arrays;  // kept only for batches
  Batching batching;
  std::unique_ptr<Model> model;
  int size;            // of the unconstrained vector
  size_t num_outputs;  // numbers that write_array gives

  std::atomic<int64_t> rejections{0};
  std::mutex mutex;
  std::string last_rejection;

  void reject(const std::exception& error) {
    ++rejections;
    std::lock_guard<std::mutex> lock(mutex);
    last_rejection = error.what();
  }
};

std::shared_mutex table_mutex;
std::unordered_map<int32_t, std::shared_ptr<DataSet>> table;
int32_t last_number = 0;

std::shared_ptr<DataSet> find(int32_t number) {
  std::shared_lock<std::shared_mutex> lock(table_mutex);
  const auto found = table.find(number);
  return found == table.end() ? nullptr : found->second;
}

// ---- evaluation

// Stan's reverse mode keeps its tape per thread, and XLA chooses the thread.
void ensure_tape() { static thread_local stan::math::ChainableStack tape; }

// Log density with normalising constants and log |d theta / d z|, and its gradient. Stan's way of saying that a point
// is outside the support is an exception: minus infinity for a rejection, not a number for any other error.
double value_and_gradient(DataSet& data, const Model& model, const Vector& z, double* gradient) {
  ensure_tape();
  const stan::math::nested_rev_autodiff nested;
  try {
    Eigen::Matrix<stan::math::var, Eigen::Dynamic, 1> parameters = z.cast<stan::math::var>();
    stan::math::var value = model.log_prob_jacobian(parameters, nullptr);
    const double result = value.val();
    value.grad();
    for (int i = 0; i < z.size(); ++i) gradient[i] = parameters[i].adj();
    return result;
  } catch (const std::domain_error& error) {
    data.reject(error);
    std::fill(gradient, gradient + z.size(), kNaN);
    return -kInfinity;
  } catch (const std::exception& error) {
    data.reject(error);
    std::fill(gradient, gradient + z.size(), kNaN);
    return kNaN;
  }
}

double value_and_gradient(DataSet& data, const Vector& z, double* gradient) {
  return value_and_gradient(data, *data.model, z, gradient);
}

// The same for some of the rows, as if they were all, scaled up. Transformed data are computed from them anew. An epoch's
// last batch is filled up with its last row, which then counts once.
double value_and_gradient_of_rows(DataSet& data, const int32_t* rows, size_t count, const Vector& z, double* gradient) {
  while (count > 1 && rows[count - 1] == rows[count - 2]) --count;
  for (size_t i = 0; i < count; ++i)
    if (rows[i] < 0 || static_cast<size_t>(rows[i]) >= data.batching.num_rows)
      throw std::out_of_range("there is no row " + std::to_string(rows[i]));
  Context context(data.arrays, data.batching, rows, count);
  const std::unique_ptr<Model> model(&new_model(context, 0, nullptr));
  return value_and_gradient(data, *model, z, gradient);
}

// Second derivative times a direction, by a central difference of gradients. With steps of eps^(1/3) the error of the
// formula and that of rounding are alike, near 1e-10 of the result.
void hessian_times(DataSet& data, const Vector& z, const Vector& direction, double* product) {
  const double length = direction.lpNorm<Eigen::Infinity>();
  if (length == 0) {  // searching for a mode asks for no curvature
    std::fill(product, product + z.size(), 0.0);
    return;
  }
  double reach = 1.0;
  for (int i = 0; i < z.size(); ++i)
    if (direction[i] != 0) reach = std::max(reach, std::abs(z[i]));
  const double step = std::cbrt(std::numeric_limits<double>::epsilon()) * reach / length;
  Vector ahead(z.size()), behind(z.size());
  const Vector up = z + step * direction, down = z - step * direction;
  value_and_gradient(data, up, ahead.data());
  value_and_gradient(data, down, behind.data());
  for (int i = 0; i < z.size(); ++i) product[i] = (ahead[i] - behind[i]) / (2 * step);
}

// Two 32-bit seeds from the bits of a point (FNV-1a): the generated quantities of a draw are a function of the draw.
std::pair<uint32_t, uint32_t> seeds_of(const Vector& z) {
  uint64_t hash = 14695981039346656037ULL;
  const auto* bytes = reinterpret_cast<const unsigned char*>(z.data());
  for (size_t i = 0; i < sizeof(double) * z.size(); ++i) hash = (hash ^ bytes[i]) * 1099511628211ULL;
  return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

// Parameters, transformed parameters and generated quantities. After an error, what had been computed before it stays
// and the rest is not a number.
void write(DataSet& data, const Vector& z, double* out) {
  const auto [low, high] = seeds_of(z);
  auto rng = stan::services::util::create_rng(low, high);
  Vector parameters = z, values = Vector::Constant(data.num_outputs, kNaN);
  try {
    data.model->write_array(rng, parameters, values, true, true, nullptr);
  } catch (const std::exception& error) {
    data.reject(error);
  }
  const size_t known = std::min<size_t>(values.size(), data.num_outputs);
  std::copy_n(values.data(), known, out);
  std::fill(out + known, out + data.num_outputs, kNaN);
}

// ---- XLA's side: batches one point after another, in either precision (Stan itself always computes in double)

Vector load(const ffi::AnyBuffer& buffer, size_t row, int size) {
  if (buffer.element_type() == ffi::DataType::F64)
    return Eigen::Map<const Vector>(buffer.typed_data<double>() + row * size, size);
  return Eigen::Map<const Eigen::VectorXf>(buffer.typed_data<float>() + row * size, size).cast<double>();
}

void store(ffi::AnyBuffer& buffer, size_t row, const Vector& values) {
  const size_t size = values.size();
  if (buffer.element_type() == ffi::DataType::F64)
    std::copy_n(values.data(), size, buffer.typed_data<double>() + row * size);
  else
    std::copy_n(values.data(), size, buffer.typed_data<float>() + row * size);
}

ffi::Error check(const ffi::AnyBuffer& buffer, size_t wanted, const char* what) {
  const bool real = buffer.element_type() == ffi::DataType::F64 || buffer.element_type() == ffi::DataType::F32;
  if (real && buffer.element_count() == wanted) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string("Stan program: wrong size or type of ") + what);
}

// Calls function(data set, row) for every row of a batch.
template <typename Function>
ffi::Error each(const ffi::Buffer<ffi::S32>& numbers, const ffi::AnyBuffer& z, Function function) {
  for (size_t row = 0; row < numbers.element_count(); ++row) {
    const int32_t number = numbers.typed_data()[row];
    const auto data = find(number);
    if (!data)
      return ffi::Error(ffi::ErrorCode::kInvalidArgument,
                        "Stan program: no data set is open under the number " + std::to_string(number));
    if (auto wrong = check(z, numbers.element_count() * data->size, "the point"); wrong.failure()) return wrong;
    try {
      if (auto wrong = function(*data, row); wrong.failure()) return wrong;
    } catch (const std::exception& error) {
      return ffi::Error(ffi::ErrorCode::kInternal, std::string("Stan program: ") + error.what());
    }
  }
  return ffi::Error::Success();
}

ffi::Error log_density(ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer z, ffi::Result<ffi::AnyBuffer> values,
                       ffi::Result<ffi::AnyBuffer> gradients) {
  return each(numbers, z, [&](DataSet& data, size_t row) {
    if (auto wrong = check(*values, numbers.element_count(), "the value"); wrong.failure()) return wrong;
    if (auto wrong = check(*gradients, z.element_count(), "the gradient"); wrong.failure()) return wrong;
    Vector value(1), gradient(data.size);
    value[0] = value_and_gradient(data, load(z, row, data.size), gradient.data());
    store(*values, row, value);
    store(*gradients, row, gradient);
    return ffi::Error::Success();
  });
}

ffi::Error row_density(ffi::Buffer<ffi::S32> numbers, ffi::Buffer<ffi::S32> rows, ffi::AnyBuffer z,
                       ffi::Result<ffi::AnyBuffer> values, ffi::Result<ffi::AnyBuffer> gradients) {
  const size_t count = rows.element_count() / numbers.element_count();
  return each(numbers, z, [&](DataSet& data, size_t row) {
    if (auto wrong = check(*values, numbers.element_count(), "the value"); wrong.failure()) return wrong;
    if (auto wrong = check(*gradients, z.element_count(), "the gradient"); wrong.failure()) return wrong;
    Vector value(1), gradient(data.size);
    value[0] = value_and_gradient_of_rows(data, rows.typed_data() + row * count, count, load(z, row, data.size),
                                          gradient.data());
    store(*values, row, value);
    store(*gradients, row, gradient);
    return ffi::Error::Success();
  });
}

ffi::Error hessian_product(ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer z, ffi::AnyBuffer directions,
                           ffi::Result<ffi::AnyBuffer> products) {
  return each(numbers, z, [&](DataSet& data, size_t row) {
    if (auto wrong = check(directions, z.element_count(), "the direction"); wrong.failure()) return wrong;
    if (auto wrong = check(*products, z.element_count(), "the product"); wrong.failure()) return wrong;
    Vector product(data.size);
    hessian_times(data, load(z, row, data.size), load(directions, row, data.size), product.data());
    store(*products, row, product);
    return ffi::Error::Success();
  });
}

ffi::Error write_array(ffi::Buffer<ffi::S32> numbers, ffi::AnyBuffer z, ffi::Result<ffi::AnyBuffer> outputs) {
  return each(numbers, z, [&](DataSet& data, size_t row) {
    if (auto wrong = check(*outputs, numbers.element_count() * data.num_outputs, "the outputs"); wrong.failure())
      return wrong;
    Vector out(data.num_outputs);
    write(data, load(z, row, data.size), out.data());
    store(*outputs, row, out);
    return ffi::Error::Success();
  });
}

using Numbers = ffi::Buffer<ffi::S32>;
using Any = ffi::AnyBuffer;
XLA_FFI_DEFINE_HANDLER(log_density_handler, log_density, ffi::Ffi::Bind().Arg<Numbers>().Arg<Any>().Ret<Any>().Ret<Any>());
XLA_FFI_DEFINE_HANDLER(row_handler, row_density,
                       ffi::Ffi::Bind().Arg<Numbers>().Arg<Numbers>().Arg<Any>().Ret<Any>().Ret<Any>());
XLA_FFI_DEFINE_HANDLER(hessian_handler, hessian_product,
                       ffi::Ffi::Bind().Arg<Numbers>().Arg<Any>().Arg<Any>().Ret<Any>());
XLA_FFI_DEFINE_HANDLER(write_handler, write_array, ffi::Ffi::Bind().Arg<Numbers>().Arg<Any>().Ret<Any>());

// ---- Python's side: text is returned until the next call in the same thread

thread_local std::string text;

std::vector<std::string> split(const char* joined) {
  std::vector<std::string> parts;
  std::istringstream in(joined);
  for (std::string part; std::getline(in, part);) parts.push_back(part);
  return parts;
}

// Reads arrays that lie one after another: their names, each on a line; their values, the first index running fastest;
// and for each a number of axes, then their lengths.
template <typename T>
void read(Context::Arrays& arrays, const char* names, const T* values, const int64_t* shapes, bool whole) {
  for (const auto& name : split(names)) {
    const int64_t axes = *shapes++;
    Array array{whole, {}, {}, std::vector<size_t>(shapes, shapes + axes)};
    shapes += axes;
    size_t size = 1;
    for (size_t length : array.shape) size *= length;
    array.reals.assign(values, values + size);
    if (whole) array.ints.assign(values, values + size);
    values += size;
    arrays[name] = std::move(array);
  }
}

std::string top(const std::string& name) { return name.substr(0, name.find_first_of(".:")); }

}  // namespace

POSTERION_PUBLIC XLA_FFI_Error* posterion_log_density(XLA_FFI_CallFrame* frame) { return log_density_handler(frame); }
POSTERION_PUBLIC XLA_FFI_Error* posterion_row_density(XLA_FFI_CallFrame* frame) { return row_handler(frame); }
POSTERION_PUBLIC XLA_FFI_Error* posterion_hessian_product(XLA_FFI_CallFrame* frame) { return hessian_handler(frame); }
POSTERION_PUBLIC XLA_FFI_Error* posterion_write_array(XLA_FFI_CallFrame* frame) { return write_handler(frame); }

POSTERION_PUBLIC const char* posterion_text() { return text.c_str(); }

// The number of a new data set, or 0 with the reason in posterion_text(). Of the names that describe rows, none or all
// are given.
POSTERION_PUBLIC int32_t posterion_open(const char* real_names, const double* reals, const int64_t* real_shapes,
                                        const char* int_names, const int32_t* ints, const int64_t* int_shapes,
                                        const char* row_names, const char* size_name, const char* scale_name) {
  try {
    auto data = std::make_shared<DataSet>();
    read(data->arrays, real_names, reals, real_shapes, false);
    read(data->arrays, int_names, ints, int_shapes, true);
    Context context(data->arrays);
    data->model.reset(&new_model(context, 0, nullptr));
    data->batching = {split(row_names), size_name, scale_name, 0};
    if (data->batching.names.empty())
      data->arrays.clear();
    else
      data->batching.num_rows = data->arrays.at(data->batching.names[0]).shape.at(0);
    data->size = static_cast<int>(data->model->num_params_r());
    std::vector<std::string> outputs;
    data->model->constrained_param_names(outputs, true, true);
    data->num_outputs = outputs.size();
    std::unique_lock<std::shared_mutex> lock(table_mutex);
    table[++last_number] = data;
    return last_number;
  } catch (const std::exception& error) {
    text = error.what();
    return 0;
  }
}

POSTERION_PUBLIC void posterion_close(int32_t number) {
  std::unique_lock<std::shared_mutex> lock(table_mutex);
  table.erase(number);
}

// One line per variable in the order of write_array: name, entries in the unconstrained vector, entries written, shape.
// The parts of a tuple are one variable, whose "shape" is its number of entries.
POSTERION_PUBLIC const char* posterion_variables(int32_t number) {
  const auto data = find(number);
  std::vector<std::string> names, flat, free;
  std::vector<std::vector<size_t>> shapes;
  data->model->get_param_names(names, true, true);
  data->model->get_dims(shapes, true, true);
  data->model->constrained_param_names(flat, true, true);
  data->model->unconstrained_param_names(free, false, false);
  std::map<std::string, size_t> written, unconstrained;
  for (const auto& name : flat) ++written[top(name)];
  for (const auto& name : free) ++unconstrained[top(name)];
  std::ostringstream out;
  std::string previous;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = top(names[i]);
    if (name == previous) continue;
    previous = name;
    out << name << ' ' << unconstrained[name] << ' ' << written[name];
    if (name == names[i])
      for (size_t length : shapes[i]) out << ' ' << length;
    else
      out << ' ' << written[name];
    out << '\n';
  }
  text = out.str();
  return text.c_str();
}

// Names of the single numbers that write_array gives, separated by line breaks.
POSTERION_PUBLIC const char* posterion_output_names(int32_t number) {
  std::vector<std::string> names;
  find(number)->model->constrained_param_names(names, true, true);
  std::ostringstream out;
  for (const auto& name : names) out << name << '\n';
  text = out.str();
  return text.c_str();
}

// Log density at a point, with Stan's reason in posterion_text() if the point is rejected (and an empty text if not).
POSTERION_PUBLIC double posterion_evaluate(int32_t number, const double* z, double* gradient) {
  const auto data = find(number);
  const int64_t before = data->rejections;
  const double value = value_and_gradient(*data, Eigen::Map<const Vector>(z, data->size), gradient);
  std::lock_guard<std::mutex> lock(data->mutex);
  text = data->rejections == before ? "" : data->last_rejection;
  return value;
}

// How many evaluations were rejected since the data set was opened.
POSTERION_PUBLIC int64_t posterion_rejections(int32_t number) { return find(number)->rejections; }
