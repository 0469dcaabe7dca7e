vector predictor(matrix x, vector beta) {
  return x * beta;
}
