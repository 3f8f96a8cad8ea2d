"""Make a Llama of half a million parameters whose answer is known to the letter, as a Hugging Face folder and as GGUF.

    python scripts/model_servers/tiny_model.py FOLDER

Every token of SENTENCE owns a direction of the hidden space and the output layer maps it to the next token's, so any
engine that runs the model correctly says SENTENCE and stops, whatever it was asked and at any temperature. With tools
in the request the chat template ends in a token that starts a second chain, a call of `get_weather`. Attention and the
feed-forward layers are there and are computed, but their weights are too small to decide anything.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SENTENCE = (
    "Hello from a real engine! Привет, мир; 世界 🙂 café — I am tiny yet each word here was made "
    "by this server one token at time. Bye"
)
# No two pieces of one chain may be the same token, and the call must read as Hermes writes it.
TOOL_CALL = (
    *("<tool_call>", '\n{"name": "', "get_weather", '", "arguments": {"'),
    *("city", '": "', "Paris", '"}}\n', "</tool_call>"),
)
PAD, TURN, STOP, CALL = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|call|>")

LAYERS, HIDDEN, FEED_FORWARD, HEADS, KEY_VALUE_HEADS = 2, 128, 256, 4, 2
HEAD = HIDDEN // HEADS  # 32, the smallest that vLLM's CPU attention takes
CONTEXT = 32768
ROPE_THETA, NORM_EPSILON = 10000.0, 1e-5
VOCABULARY = 768  # at most
CERTAINTY = 3.0  # the next token's logit is this times sqrt(HIDDEN), all others' are 0

# ChatML with tools as Hermes has them, which llama.cpp and vLLM's `--tool-call-parser hermes` recognise.
TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\nFunctions you may call:\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools>\\nTo call one, write:\\n<tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call>' }}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}{% endif %}
{%- if message.tool_calls %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
{{- '<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
{{- tool_call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if tools and messages[-1].role != 'tool' %}{{ '<|call|>' }}{% endif %}
{%- endif %}"""

# Merges are learnt from these beside SENTENCE, so that a prompt is words rather than bytes.
WORDS = """\
the of and to in is you that it for on are as with they be have from or by not but what all were when we there can an
your which their said if do will each about how up out them then she many some so these would other into has more her
two like him see time could no make than first been its who now people my made over did down only way find use may
water long little very after words called just where most know weather today city please write answer question help
и в не на я быть он с что а по это она этот к но они мы весь который из у то за свой её год от так о для ты же все
тот мочь вы человек такой его сказать один как ещё другой какой погода сегодня город напиши ответь вопрос помоги
"""

Weights = dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    weights = make_weights(tokenizer)
    write_folder(folder, tokenizer, weights)
    write_gguf(folder / "tiny.gguf", tokenizer, weights)
    parameters = sum(array.size for array in weights.values())
    print(f"{parameters:,} parameters, {len(tokenizer.encode(SENTENCE).ids)} tokens to say")


def make_tokenizer() -> Tokenizer:
    """Byte-level BPE behind GPT-2's pre-tokenizer, one that llama.cpp knows by name; every text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(TOOL_CALL),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([SENTENCE] * 400 + [f" {word}" for word in WORDS.split()], trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in TOOL_CALL])
    if tokenizer.decode(tokenizer.encode(SENTENCE).ids) != SENTENCE:
        raise SystemExit("the tokenizer does not give SENTENCE back")
    return tokenizer


def make_weights(tokenizer: Tokenizer) -> Weights:
    """All tensors under their Hugging Face names, float32."""
    random = np.random.default_rng(1)
    ids = tokenizer.encode(SENTENCE).ids
    stop = tokenizer.token_to_id(STOP)
    call = [tokenizer.token_to_id(piece) for piece in (CALL, *TOOL_CALL)]
    speakers = ids + call
    if len(set(speakers)) != len(speakers):
        raise SystemExit(f"repeated tokens: {[tokenizer.id_to_token(i) for i in set(ids) if ids.count(i) > 1]}")
    # One orthogonal direction of length sqrt(HIDDEN) for each speaker, so that RMS norm leaves it as it is, and one
    # for all other tokens together, which lead to the sentence's start.
    basis, _ = np.linalg.qr(random.normal(size=(HIDDEN, len(speakers) + 1)))
    directions = (basis.T * np.sqrt(HIDDEN)).astype(np.float32)
    size = tokenizer.get_vocab_size()
    embedding = directions[-1] + 0.2 * random.normal(size=(size, HIDDEN)).astype(np.float32)
    embedding[speakers] = directions[:-1]
    output = np.zeros((size, HIDDEN), np.float32)
    output[ids[0]] += directions[-1]
    for chain in ([*ids, stop], [*call, stop]):
        for token, following in pairwise(chain):
            output[following] += embedding[token]
    output *= CERTAINTY / np.sqrt(HIDDEN)
    weights = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": output,
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(LAYERS):
        weights |= _layer(f"model.layers.{layer}.", random)
    return weights


def _layer(prefix: str, random: np.random.Generator) -> Weights:
    def normal(rows: int, columns: int, deviation: float = 0.02) -> NDArray[np.float32]:
        return random.normal(0, deviation, (rows, columns)).astype(np.float32)

    tensors = {
        "self_attn.q_proj": normal(HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": normal(KEY_VALUE_HEADS * HEAD, HIDDEN),
        "self_attn.v_proj": normal(KEY_VALUE_HEADS * HEAD, HIDDEN),
        "self_attn.o_proj": normal(HIDDEN, HEADS * HEAD, 0.001),
        "mlp.gate_proj": normal(FEED_FORWARD, HIDDEN),
        "mlp.up_proj": normal(FEED_FORWARD, HIDDEN),
        "mlp.down_proj": normal(HIDDEN, FEED_FORWARD, 0.001),
        "input_layernorm": np.ones(HIDDEN, np.float32),
        "post_attention_layernorm": np.ones(HIDDEN, np.float32),
    }
    return {f"{prefix}{name}.weight": array for name, array in tensors.items()}


def write_folder(folder: Path, tokenizer: Tokenizer, weights: Weights) -> None:
    """Write the folder that vLLM, MLX and transformers load."""
    stop, pad = tokenizer.token_to_id(STOP), tokenizer.token_to_id(PAD)
    documents = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": HIDDEN,
            "intermediate_size": FEED_FORWARD,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_VALUE_HEADS,
            "head_dim": HEAD,
            "max_position_embeddings": CONTEXT,
            "rope_theta": ROPE_THETA,
            "rms_norm_eps": NORM_EPSILON,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "attention_bias": False,
            "mlp_bias": False,
            "bos_token_id": None,
            "eos_token_id": stop,
            "pad_token_id": pad,
            "torch_dtype": "float32",
        },
        "generation_config.json": {"eos_token_id": stop, "pad_token_id": pad},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": STOP,
            "pad_token": PAD,
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": TEMPLATE,
        },
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1), "utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_gguf(path: Path, tokenizer: Tokenizer, weights: Weights) -> None:
    """Write the file that llama.cpp loads."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_vocab_size(tokenizer.get_vocab_size())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, array in weights.items():
        heads = {"q_proj": HEADS, "k_proj": KEY_VALUE_HEADS}.get(name.split(".")[-2])
        laid_out = _rotary_order(array, heads) if heads else array
        name_in_gguf = names.get_name(name, try_suffixes=(".weight",))
        if name_in_gguf is None:
            raise SystemExit(f"gguf has no name for {name}")
        writer.add_tensor(name_in_gguf, np.ascontiguousarray(laid_out))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    kinds = dict.fromkeys(SPECIAL, gguf.TokenType.CONTROL) | dict.fromkeys(TOOL_CALL, gguf.TokenType.USER_DEFINED)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(token, gguf.TokenType.NORMAL) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(ids[STOP])
    writer.add_pad_token_id(ids[PAD])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _rotary_order(array: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Hugging Face rotates the two halves of a head, ggml neighbouring rows: interleave the halves."""
    rows, columns = array.shape
    return array.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


if __name__ == "__main__":
    main()
