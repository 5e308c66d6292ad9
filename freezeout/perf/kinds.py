"""Kinds of work, told from the names that torch gives operators and that libraries give device kernels.

The tables are tried from top to bottom and the first pattern that is found decides, so the special stands above the
general: an implicit GEMM is a convolution, and only then is a GEMM a matrix product.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

Kind = Literal[
    "convolution",
    "matmul",
    "norm",
    "elementwise",
    "attention",
    "pooling",
    "copy",
    "reduction",
    "optimizer",
    "other",
]

_POINTWISE = (
    r"add|sub|rsub|mul|div|neg|abs|sign|exp|log|pow|sqrt|rsqrt|square|reciprocal|sin|cos|erf|floor|round|lerp|addcmul"
    r"|addcdiv|maximum|minimum|eq|ne|lt|gt|le|ge|where|maskedfill|fill|zeros?|zeroslike|ones|oneslike|full|fulllike"
    r"|newzeros|relu6?|leakyrelu|prelu|elu|celu|selu|gelu|glu|silu|mish|sigmoid|logsigmoid|tanh|softplus|threshold"
    r"|hard(tanh|swish|sigmoid|shrink)|clamp(min|max)?|(native|feature|alpha)?dropout|bernoulli|uniform|normal"
)
OPERATORS: tuple[tuple[Kind, str], ...] = (
    ("optimizer", r"^foreach|^fused(sgd|adam|adagrad)"),
    ("attention", r"attention"),
    ("convolution", r"conv(?!ert)|im2col|col2im"),
    ("norm", r"(batch|layer|group|instance|rms)norm"),
    ("pooling", r"pool"),
    (
        "matmul",
        r"^(mkldnn)?(mm|addmm|bmm|baddbmm|addbmm|mv|addmv|dot|matmul|linear|bilinear|einsum)$",
    ),
    (
        "reduction",
        r"softmax|logsumexp|nllloss|crossentropy|^(sum|mean|var|std|prod|cumsum|amax|amin)$",
    ),
    ("reduction", r"^(varmean|stdmean|max|min|argmax|argmin|norm|linalgvectornorm|any|all)$"),
    (
        "copy",
        r"copy|clone|contiguous|^to$|^cat|^stack|roll|repeat|flip|(index|gather|scatter)|pad|embedding",
    ),
    ("elementwise", rf"^({_POINTWISE})$"),
)
"""By name of a torch operator or autograd node, without its namespace, underscores and the word backward."""

KERNELS: tuple[tuple[Kind, str], ...] = (
    ("optimizer", r"multi_tensor|fused_?(sgd|adam)"),
    ("attention", r"flash_(fwd|bwd)|fmha|sdpa|attention"),
    ("norm", r"bn_(fw|bw)|(batch|layer|group|instance|rms)_?norm|GammaBeta|RowwiseMoments"),
    ("norm", r"ComputeInternalGradients|ComputeFusedParams|ComputeGradGammaBeta"),
    (
        "convolution",
        r"fprop|dgrad|wgrad|implicit_(gemm|conv)|winograd|[sh]cudnn|conv(?!ert)|im2col|col2im",
    ),
    ("pooling", r"pool"),
    ("matmul", r"gemm|gemv|nvjet|splitk"),
    (
        "copy",
        r"copy|memcpy|memset|(nchw|nhwc)To(nchw|nhwc)|convertTensor|transpose|permute|roll_cuda",
    ),
    ("copy", r"index|gather|scatter|embedding"),
    ("reduction", r"reduce|softmax|nll_loss"),
    (
        "elementwise",
        r"elementwise|dropout|op_(generic_)?tensor_kernel|scalePackedTensor|distribution",
    ),
)
"""By name of a device kernel, of a copy or of a fill, anywhere in it, upper and lower case alike."""

_OPERATORS = tuple((kind, re.compile(pattern)) for kind, pattern in OPERATORS)
_KERNELS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in KERNELS)


@cache
def operator_kind(name: str) -> Kind | None:
    """Kind of what an operator such as `aten::addmm` or a node such as `AddmmBackward0` does; None if not known."""
    bare = re.sub(r"_?backward.*$", "", re.split("::|: ", name)[-1].lower()).replace("_", "")
    return next((kind for kind, pattern in _OPERATORS if pattern.search(bare)), None)


@cache
def kernel_kind(name: str) -> Kind | None:
    """Kind of what a device kernel does; None if its name does not tell."""
    return next((kind for kind, pattern in _KERNELS if pattern.search(name)), None)


def kind_of(operators: Iterable[str], kernel: str | None = None) -> Kind:
    """Kind of a piece of work from its names, the closest that tells something deciding.

    All that an attention operator does is attention, and a matrix product that a convolution makes is convolution.

    Args:
        operators: names of the operator that did the work and of those around it, innermost first.
        kernel: name of the kernel, where the work was done on a device.
    """
    around = [kind for kind in map(operator_kind, operators) if kind]
    own = kernel_kind(kernel) if kernel is not None else None
    if "attention" in around:
        return "attention"
    found: Kind = own or (around[0] if around else "other")
    return "convolution" if found == "matmul" and "convolution" in around else found
