"""A language model of a few kilobytes with random weights, built in a moment."""

from __future__ import annotations

import warnings

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = [
    "Classify the text. Answer with one word: card or top up.",
    "Where is my card? How do I add money to top up? top upper topping TOP UP Top Up",
    "Answer A or B. text hello system user assistant",
]


def make_tokenizer(template=TEMPLATE):
    """Train a byte-level tokenizer on three sentences: every text can be written with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        show_progress=False,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        chat_template=template,
    )


def make_model(n_vocabulary, *, seed=0, n_context=256, config=None, **options):
    """Draw a Llama (or another) of two layers; its large weights make its opinions strong."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = (config or LlamaConfig)(
        vocab_size=n_vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=n_context,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).eval()


def save_tiny_model(folder, *, template=TEMPLATE, **options):
    """Save model and tokenizer in a folder, as `save_pretrained` does, and return it."""
    tokenizer = make_tokenizer(template)
    tokenizer.save_pretrained(folder)
    make_model(len(tokenizer), **options).save_pretrained(folder)
    return str(folder)


def save_tiny_adapter(folder, model_folder, *, dropout=0.1):
    """Save a random LoRA adapter for a tiny model and return its folder."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    config = peft.LoraConfig(
        r=4,
        lora_alpha=16,
        lora_dropout=dropout,
        target_modules=["q_proj", "v_proj"],
        init_lora_weights=False,  # the usual start, at zero, would change nothing
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft asks transformers for what transformers has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        peft.get_peft_model(model, config).save_pretrained(folder)
    return str(folder)
