// oneDNN's matrix product with a weight in oneDNN's own layout. libtorch has both as operators of its `mkldnn` namespace,
// which tch does not wrap because they are not part of the generated API; they are called here through the dispatcher.

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Scalar.h>

#include <cstring>
#include <exception>
#include <optional>

namespace {

// Runs one operator; on failure returns null and the reason, to be freed with `free`.
template <typename Call>
at::Tensor* guarded(char** error, Call call) {
  try {
    return new at::Tensor(call());
  } catch (const std::exception& e) {
    *error = strdup(e.what());
    return nullptr;
  }
}

// Looked up once per operator: by name it costs as much as a small product.
c10::OperatorHandle named(const char* name) { return c10::Dispatcher::singleton().findSchemaOrThrow(name, ""); }

at::Tensor run(const c10::OperatorHandle& op, torch::jit::Stack stack) {
  op.callBoxed(stack);
  return stack.front().toTensor();
}

}  // namespace

extern "C" {

// `weight` is [d_out, d_in]; the result is the same numbers, laid out for products with about `rows` rows.
at::Tensor* interp_onednn_pack(const at::Tensor* weight, int64_t rows, char** error) {
  return guarded(error, [&] {
    static const auto op = named("mkldnn::_reorder_linear_weight");
    return run(op, {*weight, rows});
  });
}

// `x` is [..., d_in], contiguous, in the weight's dtype; `bias` may be null.
at::Tensor* interp_onednn_linear(const at::Tensor* x, const at::Tensor* packed, const at::Tensor* bias, char** error) {
  return guarded(error, [&] {
    static const auto op = named("mkldnn::_linear_pointwise");
    c10::IValue optional_bias = bias ? c10::IValue(*bias) : c10::IValue();
    c10::List<std::optional<at::Scalar>> no_scalars;
    return run(op, {*x, *packed, optional_bias, "none", no_scalars, ""});
  });
}
}
