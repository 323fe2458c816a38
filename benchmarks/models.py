"""Small models of well-known families, built from configs with seeded weights: nothing is downloaded.

Each function returns (module in eval mode, keyword inputs). Adding one is adding a decorated function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch_rvv.benchmarks.realmodels import REAL

from torch_rvv.errors import OptionError

Model = tuple[torch.nn.Module, dict[str, Any]]
MODELS: dict[str, Callable[[], Model]] = {}


def model(function: Callable[[], Model]) -> Callable[[], Model]:
    """Register a model under its function's name."""
    MODELS[function.__name__] = function
    return function


def build(name: str) -> Model:
    """The model of a name, or of a `module:function` path. Weights and inputs are the same each time.

    Raises OptionError for an unknown name.
    """
    torch.manual_seed(0)
    if ":" in name:
        module, _, function = name.partition(":")
        made = getattr(importlib.import_module(module), function)()
    elif name in MODELS or name in REAL:
        made = (MODELS.get(name) or REAL[name])()
    else:
        known = ", ".join((*MODELS, *REAL))
        raise OptionError(f"Unknown model {name!r}", hint=f"Known: {known}, or a module:function path.")
    network, inputs = made
    if not isinstance(inputs, dict):
        raise OptionError(f"{name} must return (module, dict of keyword inputs)")
    return network.eval(), inputs


def _tokens(vocabulary: int, length: int = 48) -> dict[str, Any]:
    return {"input_ids": torch.randint(0, vocabulary, (1, length))}


def _image(size: int = 64) -> dict[str, Any]:
    return {"pixel_values": torch.randn(1, 3, size, size)}


@model
def gpt2() -> Model:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_layer=2,
        n_embd=128,
        n_head=4,
        vocab_size=1000,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config), _tokens(1000)


@model
def bert() -> Model:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        num_hidden_layers=2, hidden_size=128, num_attention_heads=4, intermediate_size=256, vocab_size=1000
    )
    return BertForMaskedLM(config), _tokens(1000)


@model
def llama() -> Model:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=2, hidden_size=128, num_attention_heads=4, num_key_value_heads=2, intermediate_size=256,
        vocab_size=1000, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config), _tokens(1000)


@model
def qwen3() -> Model:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        num_hidden_layers=2, hidden_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=256, vocab_size=1000, use_cache=False,
    )  # fmt: skip
    return Qwen3ForCausalLM(config), _tokens(1000)


@model
def resnet() -> Model:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    return ResNetForImageClassification(config), _image()


@model
def vit() -> Model:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        num_hidden_layers=2, hidden_size=128, num_attention_heads=4, intermediate_size=256, image_size=64
    )
    return ViTForImageClassification(config), _image()


@model
def mobilenetv2() -> Model:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    network = MobileNetV2ForImageClassification(MobileNetV2Config(image_size=64))
    # With its own narrow initial weights 52 convolutions leave nothing of the image: any result would be right.
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return network, _image()


@model
def convnext() -> Model:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, layer_scale_init_value=1.0)
    return ConvNextForImageClassification(config), _image()
