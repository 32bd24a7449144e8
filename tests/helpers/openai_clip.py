"""OpenAI's CLIP of random weights, as its archives are published."""
import torch


class Block(torch.nn.Module):
    """CLIP's block, as openai/CLIP names its parts; eight tokens a head."""

    def __init__(self, width):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, width // 64)
        self.ln_1 = torch.nn.LayerNorm(width)
        self.mlp = torch.nn.ModuleDict(
            dict(
                c_fc=torch.nn.Linear(width, 4 * width),
                c_proj=torch.nn.Linear(4 * width, width)))
        self.ln_2 = torch.nn.LayerNorm(width)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp['c_fc'](self.ln_2(x))
        return x + self.mlp['c_proj'](y * torch.sigmoid(1.702 * y))


class Visual(torch.nn.Module):

    def __init__(self, width, layers, patch, img_size):
        super().__init__()
        tokens = (img_size // patch)**2 + 1
        self.conv1 = torch.nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.randn(width))
        self.positional_embedding = torch.nn.Parameter(
            torch.randn(tokens, width))
        self.ln_pre = torch.nn.LayerNorm(width)
        self.transformer = torch.nn.ModuleDict(
            dict(
                resblocks=torch.nn.Sequential(
                    *[Block(width) for _ in range(layers)])))
        self.ln_post = torch.nn.LayerNorm(width)
        self.proj = torch.nn.Parameter(torch.randn(width, 32))

    def forward(self, images):
        x = self.conv1(images).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([cls, x], 1) + self.positional_embedding
        x = self.transformer['resblocks'](self.ln_pre(x).transpose(0, 1))
        return self.ln_post(x.transpose(0, 1))


class Clip(torch.nn.Module):
    """As much of openai/CLIP as its published archives hold."""

    def __init__(self, width=128, layers=2, patch=8, img_size=32):
        super().__init__()
        self.visual = Visual(width, layers, patch, img_size)
        self.transformer = torch.nn.ModuleDict(
            dict(resblocks=torch.nn.Sequential(Block(64))))
        self.token_embedding = torch.nn.Embedding(7, 64)
        self.positional_embedding = torch.nn.Parameter(torch.randn(8, 64))
        self.ln_final = torch.nn.LayerNorm(64)
        self.text_projection = torch.nn.Parameter(torch.randn(64, 32))
        self.logit_scale = torch.nn.Parameter(torch.ones([]))
        self.register_buffer('input_resolution', torch.tensor(img_size))

    def forward(self, images, text):
        x = self.transformer['resblocks'](self.token_embedding(text))
        x = self.ln_final(x + self.positional_embedding)
        x = x @ self.text_projection * self.logit_scale
        return self.visual(images) @ self.visual.proj, x


def write_clip(path, half=True, **kwargs):
    """Write a CLIP of random weights as OpenAI does; return the module."""
    model = Clip(**kwargs).eval()
    for module in model.modules():  # as published: fp16 but for the norms
        if half and not isinstance(module, torch.nn.LayerNorm):
            for param in module.parameters(recurse=False):
                param.data = param.data.half().float()
    size = model.input_resolution.item()
    traced = torch.jit.trace(
        model, (torch.zeros(1, 3, size, size), torch.zeros(8, 1).long()))
    torch.jit.save(traced, path)
    return model
