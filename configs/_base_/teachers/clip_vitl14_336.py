"""OpenAI CLIP ViT-L/14 at 336 pixels (Radford et al., arXiv 2103.00020)."""
_base_ = 'clip_vitl14.py'

teacher = dict(
    checkpoint='checkpoints/clip_vitl14_336.pth',
    source=('OpenAI publishes it under the MIT licence: python tools/'
            'convert.py openai-clip https://openaipublic.azureedge.net/'
            'clip/models/'
            '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/'
            'ViT-L-14-336px.pt checkpoints/clip_vitl14_336.pth'),
    img_size=336,
    backbone=dict(img_size=336))
