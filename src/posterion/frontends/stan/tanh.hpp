// Stan's hyperbolic tangent with its derivative, vectorised; takes the place of stan/math/rev/fun/tanh.hpp.
//
// Stan calls libm for every number twice, tanh for the value and cosh for the derivative, which is most of the time of a
// network's density. Here both come from one exponential, of which Eigen computes several at a time:
// with e = exp(-2 |x|), tanh x = sign(x) (1 - e) / (1 + e) and its derivative 4 e / (1 + e)^2. Nothing overflows, and the
// derivative keeps all its digits far out. Near zero, where 1 - e cancels, five terms of the series are exact.
#ifndef STAN_MATH_REV_FUN_TANH_HPP
#define STAN_MATH_REV_FUN_TANH_HPP

#include <stan/math/rev/meta.hpp>
#include <stan/math/rev/core.hpp>
#include <stan/math/rev/fun/cosh.hpp>
#include <stan/math/rev/fun/exp.hpp>
#include <stan/math/prim/fun/tanh.hpp>

#include <cmath>
#include <complex>

namespace stan {
namespace math {

inline var tanh(const var& a) {
  return make_callback_var(std::tanh(a.val()), [a](const auto& vi) mutable {
    const double a_cosh = std::cosh(a.val());
    a.adj() += vi.adj_ / (a_cosh * a_cosh);
  });
}

template <typename VarMat, require_var_matrix_t<VarMat>* = nullptr>
inline auto tanh(const VarMat& a) {
  using Values = plain_type_t<decltype(a.val())>;
  using Numbers = Eigen::Array<double, Values::RowsAtCompileTime, Values::ColsAtCompileTime>;
  const Numbers x = a.val().array();
  const Numbers e = (-2.0 * x.abs()).exp();
  const Numbers square = x.square();
  const Numbers series
      = x * (1 + square * (-1.0 / 3 + square * (2.0 / 15 + square * (-17.0 / 315 + square * (62.0 / 2835)))));
  const Numbers size = (1 - e) / (1 + e);
  Values value = (square < 4e-4).select(series, (x < 0).select(-size, size)).matrix();
  arena_t<Values> slope = (4 * e / (1 + e).square()).matrix();
  return make_callback_var(std::move(value), [a, slope](const auto& vi) mutable {
    a.adj().array() += vi.adj_.array() * slope.array();
  });
}

inline std::complex<var> tanh(const std::complex<var>& z) { return stan::math::internal::complex_tanh(z); }

}  // namespace math
}  // namespace stan
#endif
