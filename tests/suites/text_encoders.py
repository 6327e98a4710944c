"""Tiny text encoders with random weights, made by real `transformers` in its own environment."""

MAKE = """
import sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (BertConfig, BertModel, CLIPTextConfig, CLIPTextModelWithProjection,
                          PreTrainedTokenizerFast, T5Config, T5EncoderModel)
out, kind = Path(sys.argv[1]), sys.argv[2]
words = "[PAD] [UNK] [CLS] [SEP] go left right move to the side head for put carrot on".split()
table = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
table.pre_tokenizer = pre_tokenizers.Whitespace()
table.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
torch.manual_seed(0)
size = dict(vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=12)
if kind == "clip":
    model = CLIPTextModelWithProjection(CLIPTextConfig(
        **size, projection_dim=8, eos_token_id=3, bos_token_id=2, pad_token_id=0))
elif kind == "t5":
    model = T5EncoderModel(T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))
else:
    model = BertModel(BertConfig(**size))
for weight in model.parameters():
    torch.nn.init.normal_(weight, std=1.0)
model.save_pretrained(out)
PreTrainedTokenizerFast(
    tokenizer_object=table, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(out)
print("null")
"""
