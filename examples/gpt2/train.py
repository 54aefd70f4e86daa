"""Train a small GPT-2 of Transformers on text: an ordinary Accelerate script.

The model is built from its configuration, and its text is the source of Python's own library, in
bytes, so nothing is downloaded. To fine-tune a model of yours, use `from_pretrained` for the model
and its tokenizer; the loop stays the same.
"""

import argparse
import sysconfig
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset, random_split
from transformers import GPT2Config, GPT2LMHeadModel, get_cosine_schedule_with_warmup

from runtime import Accelerator, DataLoaderConfiguration
from runtime.utils import set_seed

VOCABULARY = 256  # bytes


def datasets(blocks, length):
    """Return training and held-out blocks of text, as token IDs of shape (length,)."""
    library = Path(sysconfig.get_path("stdlib"))
    text = b"".join(path.read_bytes() for path in sorted(library.glob("*.py")))
    tokens = torch.frombuffer(bytearray(text[: blocks * length]), dtype=torch.uint8).long()
    data = TensorDataset(tokens.view(-1, length))
    held_out = len(data) // 10
    split = torch.Generator().manual_seed(0)
    return random_split(data, [len(data) - held_out, held_out], generator=split)


def evaluate(accelerator, model, loader):
    """Return the perplexity of the held-out blocks; each counts once, also in several processes."""
    model.eval()
    losses = []
    for (tokens,) in loader:
        with torch.no_grad():
            scores = model(tokens).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            scores.transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        losses.append(accelerator.gather_for_metrics(loss.mean(dim=1)))
    return torch.cat(losses).mean().exp().item()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=2000, help="number of blocks of text")
    parser.add_argument("--length", type=int, default=64, help="tokens of a block")
    parser.add_argument("--batch-size", type=int, default=16, help="of all processes together")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--output", type=Path, help="folder to save the model in")
    return parser.parse_args()


def main():
    args = arguments()
    set_seed(0)
    data = DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True)
    accelerator = Accelerator(dataloader_config=data)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=0,
        n_positions=args.length,
        n_embd=64,
        n_layer=2,
        n_head=4,
    )
    model = GPT2LMHeadModel(config)
    train_set, test_set = datasets(args.blocks, args.length)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, args.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    steps = args.epochs * len(train_loader)
    scheduler = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)

    model, optimizer, train_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, test_loader, scheduler
    )
    for epoch in accelerator.epochs(args.epochs):
        model.train()
        for (tokens,) in train_loader:
            loss = model(tokens, labels=tokens).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        perplexity = evaluate(accelerator, model, test_loader)
        accelerator.print(f"epoch {epoch + 1}: perplexity {perplexity:.2f}")
    if args.output:
        accelerator.unwrap_model(model).save_pretrained(
            args.output,
            is_main_process=accelerator.is_main_process,
            save_function=accelerator.save,
            state_dict=accelerator.get_state_dict(model),
        )
        accelerator.print(f"saved {args.output}")


if __name__ == "__main__":
    main()
