// One program with a parameter of every kind, for test_compiled.py, which has it in JAX too.
functions {
#include predictor.stan
}
data {
  int<lower=1> N;
  int<lower=1> K;
  matrix[N, K] x;
  array[N] int<lower=1, upper=3> grade;
  vector[N] measured;
  real<lower=0> scale;
  int<lower=0, upper=1> mean_of_rows;
  real ceiling;
  int<lower=0, upper=1> fail;
}
parameters {
  vector[K] beta;
  ordered[2] cut;
  real<lower=0> sigma;
  real<lower=-1, upper=3> shift;
  simplex[3] share;
  matrix[2, 3] loading;
  array[2] vector[3] pair;
  cholesky_factor_corr[3] corner;
  complex wave;
  tuple(real<lower=0>, vector[2]) both;
}
transformed parameters {
  vector[N] expected = predictor(x, beta);
  array[2] matrix[2, 3] stack = {loading, 10 * loading};
}
model {
  if (sigma > ceiling) {
    reject("sigma is ", sigma, ", above the ceiling");
  }
  beta ~ normal(0, 2);
  cut ~ normal(0, 3);
  sigma ~ exponential(1);
  share ~ dirichlet([2, 3, 4]');
  to_vector(loading) ~ normal(1, 0.5);
  pair[1] ~ normal(0, 1);
  pair[2] ~ normal(5, 2);
  corner ~ lkj_corr_cholesky(2);
  [get_real(wave), get_imag(wave)]' ~ normal([1, 2]', 0.5);
  both.1 ~ exponential(2);
  both.2 ~ std_normal();
  target += scale * ordered_logistic_lpmf(grade | expected, cut);
  target += scale * normal_lpdf(measured | expected + shift, sigma);
  if (mean_of_rows) {
    target += square(mean(measured)) * shift; // what one row adds depends on the others
  }
}
generated quantities {
  array[2, 3, 2] int counted;
  for (i in 1 : 2) {
    for (j in 1 : 3) {
      for (k in 1 : 2) {
        counted[i, j, k] = 100 * i + 10 * j + k;
      }
    }
  }
  complex_vector[2] waves = [wave, 2 * wave]';
  array[N] int grade_rep;
  if (fail) {
    reject("nothing is generated");
  }
  for (n in 1 : N) {
    grade_rep[n] = ordered_logistic_rng(expected[n], cut);
  }
}
