"""mmcv's compiled ops that have a gradient, by PyTorch's and torchvision's.

Those have no kernels in bf16, some not in fp16 either. So everything is
computed in fp32, and boxes and offsets are not rounded; what is filled keeps
its dtype. Where the library has no backward to call, the forward is computed
again and PyTorch differentiates it.
"""
import torch
import torchvision

from mmfd.hosts import versions
from mmfd.hosts.lookup import find


def lacking(name, *args, **kwargs):
    """Say that there is no stand-in for an op, when it is called."""
    raise NotImplementedError(
        f'{name} is a compiled op of mmcv that mmfd has no stand-in for: '
        'install an mmcv with its ops (MMCV_WITH_OPS=1), or choose a model '
        'without it')


def roi_align_forward(input, rois, output, argmax_y, argmax_x, aligned_height,
                      aligned_width, spatial_scale, sampling_ratio, pool_mode,
                      aligned):
    """Fill `output` (N, C, h, w) with the maps below the boxes.

    Args:
        input: (B, C, H, W).
        rois: (N, 5), index of the image and a box in pixels.
        argmax_y, argmax_x: empty, as averages have no maximum.
        spatial_scale (float): map over pixels.
        sampling_ratio (int): points a bin and axis, 0 for as many as needed.
        pool_mode (int): 1, the average.
        aligned (bool): pixels are areas, not points.

    Raises:
        NotImplementedError: for the maximum.
    """
    _check_averages(pool_mode)
    output.copy_(
        torchvision.ops.roi_align(*_exact(input, rois),
                                  (aligned_height, aligned_width),
                                  spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad_input,
                       aligned_height, aligned_width, spatial_scale,
                       sampling_ratio, pool_mode, aligned):
    """Fill `grad_input` (B, C, H, W); arguments as of the forward.

    Raises:
        Refused: if this torchvision has another name for it.
    """
    _check_averages(pool_mode)
    size = aligned_height, aligned_width
    backward = find('torch:ops.torchvision._roi_align_backward')
    if backward is None:
        raise versions.lacks('torchvision',
                             'ops.torchvision._roi_align_backward')
    grad_input.copy_(
        backward(*_exact(grad_output, rois), spatial_scale, *size,
                 *grad_input.shape, sampling_ratio, aligned))


def _check_averages(pool_mode):
    if pool_mode != 1:
        lacking("roi_align with pool_mode='max'")


def sigmoid_focal_loss_forward(input, target, weight, output, gamma, alpha):
    """Fill `output` (N, C) with the focal loss of each logit.

    Args:
        input: (N, C) logits.
        target: (N, ), the class; one that is none of C is the background.
        weight: (C, ), of the rows of a class, or empty.
        gamma (float): exponent of what is missing to the truth.
        alpha (float): factor where the class is there; 1 - alpha elsewhere.
    """
    logits, weight = _exact(input, weight)
    output.copy_(_focal_loss(logits, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(input, target, weight, grad_input, gamma,
                                alpha):
    """Fill `grad_input` (N, C); arguments as of the forward."""
    weight, = _exact(weight)
    grad_input.copy_(*_gradients(
        lambda logits: _focal_loss(logits, target, weight, gamma, alpha),
        [input], torch.ones_like(input)))


def _focal_loss(logits, target, weight, gamma, alpha):
    classes = logits.shape[1]
    there = target[:, None] == torch.arange(classes, device=target.device)
    loss = torchvision.ops.sigmoid_focal_loss(logits, there.to(logits), alpha,
                                              gamma)
    if not len(weight):
        return loss
    known = (target >= 0) & (target < classes)
    of_rows = weight[target.clamp(0, classes - 1)].where(known, 1)
    return loss * of_rows[:, None]


def ms_deform_attn_forward(value, spatial_shapes, level_start_index,
                           sampling_loc, attn_weight, im2col_step):
    """Weighted sums of what several maps have at points between pixels.

    Args:
        value: (B, S, H, D), the pixels of all maps, one after the other.
        spatial_shapes: (n, 2), height and width of each.
        level_start_index: (n, ), which follow from it.
        sampling_loc: (B, Q, H, n, P, 2), (x, y) from 0 to 1.
        attn_weight: (B, Q, H, n, P).

    Returns:
        Tensor: (B, Q, H D).
    """
    attend = _deformable_attention(spatial_shapes)
    return attend(*_exact(value, sampling_loc, attn_weight)).to(value.dtype)


def ms_deform_attn_backward(value, spatial_shapes, level_start_index,
                            sampling_loc, attn_weight, grad_output, grad_value,
                            grad_sampling_loc, grad_attn_weight, im2col_step):
    """Fill the gradients of values, points and weights."""
    _fill([grad_value, grad_sampling_loc, grad_attn_weight],
          _gradients(
              _deformable_attention(spatial_shapes),
              [value, sampling_loc, attn_weight], grad_output))


def _deformable_attention(spatial_shapes):
    """mmcv's own in Python, which it calls on CPUs alone."""
    from mmcv.ops import multi_scale_deform_attn
    shapes = spatial_shapes.tolist()  # one wait for the device, not 2 n
    return lambda value, points, weights: (
        multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
            value, shapes, points, weights))


def deform_conv_forward(input, weight, offset, output, columns, ones, **sizes):
    """Fill `output` (B, C', h, w) with a convolution at points that move.

    Args:
        input: (B, C, H, W).
        weight: (C', C / groups, kh, kw).
        offset: (B, 2 kh kw G, h, w), (y, x) of each point, for each of G
            groups of channels.
        columns, ones: memory that C++ needs.
        sizes: stride `dH`, `dW`, padding `padH`, `padW`, dilation
            `dilationH`, `dilationW`, and what follows from the shapes.
    """
    output.copy_(_convolution(V1, sizes)(*_exact(input, offset, weight)))


def deform_conv_backward_input(input, offset, grad_output, grad_input,
                               grad_offset, weight, columns, **sizes):
    """Fill the gradients of input and offset."""
    convolve, (weight, ) = _convolution(V1, sizes), _exact(weight)
    _fill([grad_input, grad_offset],
          _gradients(lambda x, points: convolve(x, points, weight),
                     [input, offset], grad_output))


def deform_conv_backward_parameters(input, offset, grad_output, grad_weight,
                                    columns, ones, scale, **sizes):
    """Fill the gradient of the weight, whose value it does not depend on."""
    convolve, (x, points) = _convolution(V1, sizes), _exact(input, offset)
    _fill([grad_weight],
          _gradients(lambda weight: scale * convolve(x, points, weight),
                     [grad_weight], grad_output))


def modulated_deform_conv_forward(input, weight, bias, ones, offset, mask,
                                  output, columns, with_bias, **sizes):
    """As `deform_conv_forward`, and each point has a weight.

    Args:
        bias: (C', ), or empty.
        mask: (B, kh kw G, h, w).
        sizes: `stride_h`, `stride_w`, `pad_h` and so on.

    Raises:
        NotImplementedError: where (h, w) of the offsets is not the output's,
            as in DyHead: mmcv reads the first of them.
    """
    if offset.shape[2:] != output.shape[2:]:
        lacking('modulated_deform_conv_forward with offsets of another size '
                'than its output')
    inputs = [input, offset, weight, mask] + [bias] * with_bias
    output.copy_(_convolution(V2, sizes)(*_exact(*inputs)))


def modulated_deform_conv_backward(input, weight, bias, ones, offset, mask,
                                   columns, grad_input, grad_weight, grad_bias,
                                   grad_offset, grad_mask, grad_output,
                                   with_bias, **sizes):
    """Fill the gradients of all that the forward takes."""
    inputs = [input, offset, weight, mask] + [bias] * with_bias
    grads = [grad_input, grad_offset, grad_weight, grad_mask]
    _fill(grads + [grad_bias] * with_bias,
          _gradients(_convolution(V2, sizes), inputs, grad_output))


# How the C++ functions name the sizes of a convolution, by axis
V1 = [dict(stride=f'd{x}', padding=f'pad{x}', dilation=f'dilation{x}')
      for x in 'HW']  # yapf: disable
V2 = [dict(stride=f'stride_{x}', padding=f'pad_{x}', dilation=f'dilation_{x}')
      for x in 'hw']  # yapf: disable


def _convolution(names, sizes):
    """Of (input, offset, weight, mask, bias), the last two if there are."""
    sizes = {key: [sizes[axis[key]] for axis in names] for key in names[0]}
    return lambda x, offset, weight, mask=None, bias=None: (
        torchvision.ops.deform_conv2d(
            x, offset, weight, bias, mask=mask, **sizes))


def _exact(*tensors):
    """In fp32, what is in fp16 or bf16; the others as they are."""
    return [x.float() if x.itemsize < 4 else x for x in tensors]


def _gradients(op, inputs, grad):
    """The gradient of each input of `op(*inputs)`, from that of its output."""
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in _exact(*inputs)]
        out = op(*inputs)
    return torch.autograd.grad(out, inputs, grad.to(out.dtype))


def _fill(tensors, values):
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
