import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from freezeout.perf.kinds import KERNELS, OPERATORS, kernel_kind, kind_of, operator_kind

OPERATOR_NAMES = {
    "convolution": (
        *("aten::conv2d", "aten::convolution", "aten::_convolution", "aten::mkldnn_convolution"),
        *("aten::convolution_backward", "aten::_slow_conv2d_forward", "aten::thnn_conv2d"),
        *("aten::cudnn_convolution", "aten::_conv_depthwise2d", "ConvolutionBackward0"),
        "autograd::engine::evaluate_function: ConvolutionBackward0",
    ),
    "matmul": (
        *("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::matmul", "aten::linear"),
        *("AddmmBackward0", "MmBackward0", "BmmBackward0", "aten::mkldnn_linear"),
        "autograd::engine::evaluate_function: AddmmBackward0",
    ),
    "norm": (
        *("aten::batch_norm", "aten::_batch_norm_impl_index", "aten::native_batch_norm"),
        *("aten::native_batch_norm_backward", "aten::cudnn_batch_norm", "aten::layer_norm"),
        *("aten::native_layer_norm_backward", "aten::native_group_norm", "aten::rms_norm"),
        *("NativeBatchNormBackward0", "CudnnBatchNormBackward0", "NativeLayerNormBackward0"),
    ),
    "elementwise": (
        *("aten::add", "aten::add_", "aten::mul", "aten::div", "aten::relu", "aten::relu_"),
        *("aten::clamp_min", "aten::clamp_min_", "aten::threshold_backward", "aten::gelu"),
        *("aten::gelu_backward", "aten::silu_", "aten::hardswish_backward", "aten::fill_"),
        *("aten::zero_", "aten::zeros_like", "aten::native_dropout", "aten::masked_fill_"),
        *("ReluBackward0", "ClampMinBackward1", "AddBackward0", "MulBackward0", "GeluBackward0"),
    ),
    "attention": (
        "aten::scaled_dot_product_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
        "aten::_scaled_dot_product_attention_math",
        "aten::_flash_attention_forward",
        "aten::_efficient_attention_backward",
        "ScaledDotProductFlashAttentionForCpuBackward0",
    ),
    "pooling": (
        *("aten::max_pool2d", "aten::max_pool2d_with_indices", "aten::avg_pool2d_backward"),
        *("aten::_adaptive_avg_pool2d", "MaxPool2DWithIndicesBackward0", "AvgPool2DBackward0"),
    ),
    "copy": (
        *("aten::copy_", "aten::_to_copy", "aten::to", "aten::clone", "aten::contiguous"),
        *("aten::cat", "aten::stack", "aten::roll", "aten::index", "aten::index_put_"),
        *("CatBackward0", "ToCopyBackward0", "CloneBackward0", "aten::constant_pad_nd"),
    ),
    "reduction": (
        *("aten::sum", "aten::mean", "aten::_softmax", "aten::_log_softmax_backward_data"),
        *("aten::nll_loss_forward", "aten::cross_entropy_loss", "MeanBackward1"),
        *("LogSoftmaxBackward0", "NllLossBackward0", "aten::linalg_vector_norm"),
    ),
    "optimizer": ("aten::_foreach_add_", "aten::_foreach_mul_", "aten::_fused_sgd_"),
}
UNTOLD = (
    *("aten::empty", "aten::view", "aten::as_strided", "aten::t", "aten::detach", "aten::resize_"),
    *("aten::resolve_conj", "torch::autograd::AccumulateGrad", "TBackward0", "aten::permute"),
    *("aten::convert_something", "profiled step 3 forward"),
)
KERNEL_NAMES = {
    "convolution": (
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_warpgroupsize1x1x1",
        "sm80_xmma_wgrad_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16_stage4",
        "sm80_xmma_dgrad_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize64x64x64_stage3_kernel_cudnn",
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_s1688fprop_optimized_tf32_128x64_32x3_nhwc_align4>(...)",
        "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>(...)",
        "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false, false, true>(...)",
        "ampere_scudnn_128x64_relu_xregs_large_nn_v1",
        "void cudnn::cnn::wgrad2d_grouped_direct_kernel<__nv_bfloat16, __nv_bfloat16, float>(...)",
        "void at::native::(anonymous namespace)::conv_depthwise2d_backward_kernel<3, 1, float, int>(...)",
        "void at::native::im2col_kernel<float>(long, float const*, long, long)",
    ),
    "matmul": (
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128_32x3_nn_align8>(...)",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x",
        "ampere_sgemm_128x64_nn",
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT",
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false, false>(...)",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>(...)",
    ),
    "norm": (
        "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>(...)",
        "void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 512, true, 1>(...)",
        "void cudnn::batchnorm_fwtr_nhwc_semiPersist<__nv_bfloat16, __nv_bfloat16, float, __nv_bfloat16>(...)",
        "void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::Var, float, float, 4>(...)",
        "void at::native::batch_norm_backward_reduce_channels_last_kernel<4, c10::BFloat16, float, float>(...)",
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float, false>(...)",
        "void at::native::(anonymous namespace)::layer_norm_grad_input_kernel_vectorized<float, float>(...)",
        "void at::native::(anonymous namespace)::GammaBetaBackwardCUDAKernelTemplate<float, float, 32u, 1u>(...)",
        "void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<float>(...)",
    ),
    "elementwise": (
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(...)",
        "void at::native::vectorized_elementwise_kernel<8, at::native::FillFunctor<c10::BFloat16>>(...)",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<"
        "at::native::(anonymous namespace)::launch_clamp_scalar>>(...)",
        "void at::native::unrolled_elementwise_kernel<at::native::BinaryFunctor<float, float, float>>(...)",
        "void at::native::(anonymous namespace)::fused_dropout_kernel_vec<float, float, unsigned int, 1, 4>(...)",
        "void op_generic_tensor_kernel<2, float, float, float, 256, (cudnnGenericOp_t)0>(...)",
    ),
    "attention": (
        "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128, 64, 4>>(...)",
        "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<64>>(...)",
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>::Params)",
        "fmha_cutlassB_f32_aligned_64x64_k64_sm80(PyTorchMemEffAttention::AttentionBackwardKernel<...>::Params)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x64_4x1x1_kernel0_0",
    ),
    "pooling": (
        "void at::native::(anonymous namespace)::max_pool_forward_nhwc<c10::BFloat16, int>(...)",
        "void at::native::(anonymous namespace)::avg_pool2d_backward_out_cuda_frame<float, float, int>(...)",
        "void cudnn::ops::pooling_bw_kernel_max_nchw_fully_packed_small<float, float>(...)",
    ),
    "copy": (
        "void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, true, true>(...)",
        "void cudnn::ops::nhwcToNchwKernel<float, float, float, true, false>(...)",
        "Memcpy DtoD (Device -> Device)",
        "Memcpy HtoD (Pageable -> Device)",
        "Memset (Device)",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(...)>(...)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_aligned16_contig<float, 4, 128, 1>(...)",
        "void at::native::(anonymous namespace)::roll_cuda_kernel<float>(...)",
        "void at::native::index_elementwise_kernel<128, 4, at::native::gpu_index_kernel>(...)",
    ),
    "reduction": (
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>(...)",
        "void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float>(...)",
        "void (anonymous namespace)::softmax_warp_backward<float, float, float, 7, true, false>(...)",
        "void at::native::(anonymous namespace)::nll_loss_forward_reduce_cuda_kernel_2d<float, float, long>(...)",
    ),
    "optimizer": (
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<2>, "
        "BinaryOpListAlphaFunctor<float, 2, 2, 0>>(...)",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedSgdMathFunctor<float, 3>>(...)",
    ),
}


def cases(names):
    return [pytest.param(name, kind, id=name[:60]) for kind, some in names.items() for name in some]


@pytest.mark.parametrize(("name", "kind"), cases(OPERATOR_NAMES))
def test_an_operators_name_tells_its_kind(name, kind):
    assert operator_kind(name) == kind


@pytest.mark.parametrize("name", UNTOLD)
def test_what_does_no_work_of_its_own_tells_nothing(name):
    assert operator_kind(name) is None


@pytest.mark.parametrize(("name", "kind"), cases(KERNEL_NAMES))
def test_a_kernels_name_tells_its_kind(name, kind):
    assert kernel_kind(name) == kind


def test_every_kind_but_other_is_in_both_tables():
    assert {kind for kind, _ in OPERATORS} == {kind for kind, _ in KERNELS} == set(OPERATOR_NAMES)
    assert set(KERNEL_NAMES) == set(OPERATOR_NAMES)


GEMM, LAYOUT, PLAIN = "ampere_sgemm_128x64_nn", "nchwToNhwcKernel", "some_kernel"


@pytest.mark.parametrize(
    ("operators", "kernel", "kind"),
    [
        (["aten::empty", "aten::mkldnn_convolution", "aten::conv2d"], None, "convolution"),
        (["aten::sum", "AddmmBackward0"], None, "reduction"),
        (["aten::empty"], None, "other"),
        ([], None, "other"),
        (["aten::addmm"], GEMM, "matmul"),
        (["aten::cudnn_convolution"], GEMM, "convolution"),
        (["aten::cudnn_convolution"], LAYOUT, "copy"),
        (["aten::cudnn_convolution"], PLAIN, "convolution"),
        (["aten::mm", "aten::_slow_conv2d_forward"], None, "convolution"),
        (["aten::bmm", "aten::_scaled_dot_product_attention_math"], GEMM, "attention"),
        (["aten::_softmax", "aten::scaled_dot_product_attention"], None, "attention"),
        ([], "Memset (Device)", "copy"),
        ([], PLAIN, "other"),
    ],
)
def test_the_closest_name_that_tells_something_decides(operators, kernel, kind):
    assert kind_of(operators, kernel) == kind


class Mixed(nn.Module):
    """One layer of every kind that a CPU has."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.layer_norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 24)

    def forward(self, images):
        tokens = functional.max_pool2d(self.norm(self.conv(images)).relu(), 2).flatten(2)
        q, k, v = self.linear(self.layer_norm(tokens.transpose(1, 2))).unsqueeze(1).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v).mean((1, 2))


def test_every_kind_of_layer_is_told_by_the_names_that_torch_gives_it_here():
    model, images = Mixed(), torch.randn(4, 3, 32, 32)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        functional.cross_entropy(model(images), torch.tensor([0, 1, 2, 3])).backward()
    kinds = {operator_kind(event.key) for event in found.key_averages()}
    assert kinds - {None} == set(OPERATOR_NAMES) - {"optimizer"}
