// Of the many functions that Stan's algorithms may ask of a model, the two that Posterion calls; takes the place of
// stan/model/model_base_crtp.hpp.
//
// Virtual functions are compiled whether they are called or not, and Stan's class has the log density in sixteen of
// them: with and without its constants, with and without the Jacobian, for numbers and for variables, for Eigen's vectors
// and for the standard library's. A compiler spends most of its time on those; here fifteen of them raise.
#ifndef STAN_MODEL_MODEL_BASE_CRTP_HPP
#define STAN_MODEL_MODEL_BASE_CRTP_HPP

#include <stan/model/model_base.hpp>

#include <iostream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace stan {
namespace model {

[[noreturn]] inline void not_compiled() { throw std::logic_error("Posterion has not compiled this function"); }

template <typename M>
class model_base_crtp : public model_base {
  using Doubles = Eigen::VectorXd;
  using Variables = Eigen::Matrix<math::var, -1, 1>;
  using DoubleList = std::vector<double>;
  using VariableList = std::vector<math::var>;
  using Whole = std::vector<int>;
  using Messages = std::ostream*;

 public:
  explicit model_base_crtp(size_t num_params_r) : model_base(num_params_r) {}

  math::var log_prob_jacobian(Variables& theta, Messages messages) const override {
    return static_cast<const M*>(this)->template log_prob<false, true>(theta, messages);
  }
  void write_array(rng_t& rng, Doubles& theta, Doubles& values, bool transformed, bool generated,
                   Messages messages) const override {
    static_cast<const M*>(this)->write_array(rng, theta, values, transformed, generated, messages);
  }

  double log_prob(Doubles&, Messages) const override { not_compiled(); }
  math::var log_prob(Variables&, Messages) const override { not_compiled(); }
  double log_prob_jacobian(Doubles&, Messages) const override { not_compiled(); }
  double log_prob_propto(Doubles&, Messages) const override { not_compiled(); }
  math::var log_prob_propto(Variables&, Messages) const override { not_compiled(); }
  double log_prob_propto_jacobian(Doubles&, Messages) const override { not_compiled(); }
  math::var log_prob_propto_jacobian(Variables&, Messages) const override { not_compiled(); }
  double log_prob(DoubleList&, Whole&, Messages) const override { not_compiled(); }
  math::var log_prob(VariableList&, Whole&, Messages) const override { not_compiled(); }
  double log_prob_jacobian(DoubleList&, Whole&, Messages) const override { not_compiled(); }
  math::var log_prob_jacobian(VariableList&, Whole&, Messages) const override { not_compiled(); }
  double log_prob_propto(DoubleList&, Whole&, Messages) const override { not_compiled(); }
  math::var log_prob_propto(VariableList&, Whole&, Messages) const override { not_compiled(); }
  double log_prob_propto_jacobian(DoubleList&, Whole&, Messages) const override { not_compiled(); }
  math::var log_prob_propto_jacobian(VariableList&, Whole&, Messages) const override { not_compiled(); }

  void write_array(rng_t&, DoubleList&, Whole&, DoubleList&, bool, bool, Messages) const override { not_compiled(); }
  void unconstrain_array(const Doubles&, Doubles&, Messages) const override { not_compiled(); }
  void unconstrain_array(const DoubleList&, DoubleList&, Messages) const override { not_compiled(); }
  void transform_inits(const io::var_context&, Doubles&, Messages) const override { not_compiled(); }
};

}  // namespace model
}  // namespace stan

#endif
