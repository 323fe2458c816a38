"""Models of real size for the suite `models`, a block of those that are many alike. Seeded weights, as in models.py.

resnet50          the whole of it, one image
bert_layer        a layer of BERT-base, 128 tokens
gpt2_block        a block of GPT-2 small, 128 tokens
qwen_prefill      a block of Qwen2 0.5B, 128 tokens
qwen_decode       the same block, one token after 1,023 that are in the cache
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Model = tuple[torch.nn.Module, dict[str, Any]]
REAL: dict[str, Callable[[], Model]] = {}
TOKENS = 128
CACHED = 1023


def real(function: Callable[[], Model]) -> Callable[[], Model]:
    """Register a model under its function's name."""
    REAL[function.__name__] = function
    return function


class First(torch.nn.Module):
    """A layer that gives several things, or one: the hidden states only."""

    def __init__(self, layer: torch.nn.Module, **keywords: Any):
        super().__init__()
        self.layer, self.keywords = layer, keywords

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        result = self.layer(hidden_states, **self.keywords)
        return result[0] if isinstance(result, tuple) else result


class Block(torch.nn.Module):
    """A decoder layer with rotary positions, and with a cache where keys and values of earlier tokens are given."""

    def __init__(self, layer: torch.nn.Module, rotary: torch.nn.Module):
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(
        self, hidden_states: torch.Tensor, keys: torch.Tensor | None = None, values: torch.Tensor | None = None
    ) -> torch.Tensor:
        from transformers import DynamicCache

        cache, past = None, 0
        if keys is not None and values is not None:
            cache, past = DynamicCache(), keys.shape[2]
            cache.update(keys, values, 0)
        positions = torch.arange(past, past + hidden_states.shape[1])[None]
        result = self.layer(
            hidden_states,
            position_ids=positions,
            position_embeddings=self.rotary(hidden_states, positions),
            past_key_values=cache,
        )
        return result[0] if isinstance(result, tuple) else result


@real
def resnet50() -> Model:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig()), {"pixel_values": torch.randn(1, 3, 224, 224)}


@real
def bert_layer() -> Model:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(attn_implementation="sdpa")
    return First(BertLayer(config)), {"hidden_states": torch.randn(1, TOKENS, config.hidden_size)}


@real
def gpt2_block() -> Model:
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    config = GPT2Config(attn_implementation="sdpa")
    return First(GPT2Block(config, layer_idx=0)), {"hidden_states": torch.randn(1, TOKENS, config.n_embd)}


def _qwen(**inputs: torch.Tensor) -> Model:
    from transformers import Qwen2Config
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

    config = Qwen2Config(
        hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, num_hidden_layers=1,
        attn_implementation="sdpa",
    )  # fmt: skip
    return Block(Qwen2DecoderLayer(config, layer_idx=0), Qwen2RotaryEmbedding(config)), inputs


@real
def qwen_prefill() -> Model:
    return _qwen(hidden_states=torch.randn(1, TOKENS, 896))


@real
def qwen_decode() -> Model:
    keys, values = torch.randn(1, 2, CACHED, 64), torch.randn(1, 2, CACHED, 64)
    return _qwen(hidden_states=torch.randn(1, 1, 896), keys=keys, values=values)
