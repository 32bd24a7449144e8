"""OpenAI CLIP ViT-L/14 as teacher (Radford et al., arXiv 2103.00020)."""
_base_ = 'clip_vitb16.py'

teacher = dict(
    checkpoint='checkpoints/clip_vitl14.pth',
    source=('OpenAI publishes it under the MIT licence: python tools/'
            'convert.py openai-clip https://openaipublic.azureedge.net/'
            'clip/models/'
            'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/'
            'ViT-L-14.pt checkpoints/clip_vitl14.pth'),
    backbone=dict(arch='large', patch_size=14))
