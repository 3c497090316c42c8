import torch

from secateurs.inference.attention_kernels import many_shapes


def test_cudnn_is_left_out_in_the_context_and_allowed_again_after_it() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with many_shapes():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() == before
