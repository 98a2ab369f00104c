"""The PyTorch peer of bench.step: run by a Python that has torch and transformers, which the project's own has not.

    python3.11 -m venv peer && peer/bin/pip install torch==2.13.0 transformers safetensors numpy

A divided space-time ViT to the wiring and under the parameter names of the released code, and DistilBERT or BERT of
transformers. `--check FOLDER` (cmrclip_tiny/ and the like) holds it to the released model's float64 numbers; otherwise
it answers lines on its standard input (see `serve`). Nothing of the project is imported here.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DividedAttention(nn.Module):
    def __init__(self, width: int, heads: int, plain: bool):
        super().__init__()
        self.heads, self.plain = heads, plain
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any, frames: int, along_time: bool) -> Any:
        B, S, D = x.shape
        N, K, P = self.heads, D // self.heads, (S - 1) // frames
        q, k, v = self.qkv(x).view(B, S, 3, N, K).permute(2, 0, 3, 1, 4)  # B N S K each
        cls = self._attend(q[:, :, :1], k, v)

        def grouped(y: Any) -> Any:  # B N G L K, the groups being patches (along time) or frames
            y = y[:, :, 1:].reshape(B, N, frames, P, K)
            return y.transpose(2, 3) if along_time else y

        def with_cls(y: Any) -> Any:
            group = grouped(y)
            return torch.cat([y[:, :, None, :1].expand(-1, -1, group.shape[2], -1, -1), group], dim=3)

        mixed = self._attend(grouped(q), with_cls(k), with_cls(v))
        mixed = (mixed.transpose(2, 3) if along_time else mixed).reshape(B, N, S - 1, K)
        return self.proj(torch.cat([cls, mixed], dim=2).transpose(1, 2).reshape(B, S, D))

    def _attend(self, q: Any, k: Any, v: Any) -> Any:
        if not self.plain:
            shape = q.shape
            q, k, v = (y.flatten(0, -3) for y in (q, k, v))
            return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None]).view(shape)
        weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1)
        return weights @ v


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Any) -> Any:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, epsilon: float, plain: bool):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=epsilon) for _ in range(3))
        self.attn = DividedAttention(width, heads, plain)
        self.timeattn = DividedAttention(width, heads, plain)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Any, frames: int) -> Any:
        timed = x + self.timeattn(self.norm3(x), frames, True)
        x = x + self.attn(self.norm1(timed), frames, False)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)


class SpaceTimeTransformer(nn.Module):
    def __init__(self, video: dict[str, Any], plain: bool):
        super().__init__()
        width, epsilon = video["width"], video["layer_norm_eps"]
        patches = (video["image_size"] // video["patch_size"]) ** 2
        self.patch_embed = PatchEmbed(width, video["patch_size"])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, width))
        self.temporal_embed = nn.Parameter(torch.zeros(1, video["num_frames"], width))
        self.blocks = nn.ModuleList(Block(width, video["heads"], epsilon, plain) for _ in range(video["depth"]))
        self.norm = nn.LayerNorm(width, eps=epsilon)

    def forward(self, video: Any) -> Any:
        B, T = video.shape[:2]
        x_NDP = self.patch_embed.proj(video.flatten(0, 1)).flatten(2)
        x = x_NDP.transpose(1, 2).reshape(B, T, x_NDP.shape[2], x_NDP.shape[1])
        x = x + self.pos_embed[:, None, 1:] + self.temporal_embed[:, :T, None]
        x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(B, -1, -1), x.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x, T)
        return self.norm(x[:, 0])


class Peer(nn.Module):
    def __init__(self, sizes: dict[str, Any], plain: bool = False):
        super().__init__()
        from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel  # pyright: ignore

        text, how = sizes["text"], "eager" if plain else "sdpa"
        self.mean = text.get("pool", "mean" if text["kind"] == "bert" else "cls") == "mean"
        self.video_model = SpaceTimeTransformer(sizes["video"], plain)
        if text["kind"] == "bert":
            self.text_model = BertModel(
                BertConfig(
                    vocab_size=text["vocab"], hidden_size=text["width"], num_hidden_layers=text["layers"],
                    num_attention_heads=text["heads"], intermediate_size=text["mlp"], hidden_dropout_prob=0.0,
                    attention_probs_dropout_prob=0.0, max_position_embeddings=text["max_positions"],
                    layer_norm_eps=text["layer_norm_eps"], attn_implementation=how,
                )
            )  # fmt: skip
        else:
            self.text_model = DistilBertModel(
                DistilBertConfig(
                    vocab_size=text["vocab"], dim=text["width"], n_layers=text["layers"], n_heads=text["heads"],
                    hidden_dim=text["mlp"], dropout=0.0, attention_dropout=0.0,
                    max_position_embeddings=text["max_positions"], attn_implementation=how,
                )
            )  # fmt: skip
        self.vid_proj = nn.Sequential(nn.ReLU(), nn.Linear(sizes["video"]["width"], sizes["projection"]))
        self.txt_proj = nn.Sequential(nn.ReLU(), nn.Linear(text["width"], sizes["projection"]))

    def forward(self, video: Any, tokens: Any, mask: Any) -> dict[str, Any]:
        features = self.video_model(video)
        hidden = self.text_model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weight = mask[:, :, None].to(hidden.dtype)
        pooled = (hidden * weight).sum(1) / weight.sum(1) if self.mean else hidden[:, 0]
        return {
            "video_features": features,
            "video_embedding": self.vid_proj(features),
            "text_hidden": hidden,
            "text_features": pooled,
            "text_embedding": self.txt_proj(pooled),
        }


def load(folder: Path, plain: bool = False) -> Peer:
    """A model of `folder`'s config.json with the weights beside it."""
    peer = Peer(json.loads((folder / "config.json").read_text()), plain)
    state = safetensors.torch.load_file(folder / "state_dict.safetensors")
    missing, unused = peer.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("position_ids") and "pooler" not in name]
    if missing or unused:
        raise SystemExit(f"the peer and the weights do not fit: missing {missing}, unused {unused}")
    return peer


def loss_of(out: dict[str, Any], scale: float = 20.0) -> Any:
    """As released: the two directions of softmax summed, at a fixed temperature of 0.05."""
    image, text = (F.normalize(out[f"{side}_embedding"], dim=1) for side in ("video", "text"))
    logits = scale * image @ text.T
    own = torch.arange(len(logits))
    return F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)


def check(folder: Path, plain: bool) -> float:
    """The largest relative distance of any stage, in float64, from what the released model gave."""
    peer, io = load(folder, plain).double().eval(), np.load(folder / "io.npz")
    with torch.no_grad():
        tokens, mask = torch.from_numpy(io["input_ids"]), torch.from_numpy(io["attention_mask"])
        out = peer(torch.from_numpy(io["video"]).double(), tokens, mask)
    found = {name: float(np.abs(out[name].numpy() - io[name]).max() / np.abs(io[name]).max()) for name in out}
    found["loss"] = abs(float(loss_of(out)) / float(io["loss_temperature_0p05"]) - 1)
    return max(found.values())


def batch_of(folder: Path) -> tuple[Any, Any, Any]:
    """The bench's batch: grey frames as three normalised channels, as the released code reads them."""
    io = np.load(folder / "batch.npz")
    grey = io["video"].astype(np.float32) / 255
    colour = np.stack([(grey - m) / s for m, s in zip(MEAN, STD, strict=True)], axis=2).astype(np.float32)
    return torch.from_numpy(colour), torch.from_numpy(io["tokens"]).long(), torch.from_numpy(io["mask"]).long()


def serve(folder: Path, what: str, plain: bool) -> None:
    """Answers each line of standard input by one line of JSON: `run` (one step or one inference: CPU-seconds and the
    loss), `gemm` (FLOP a CPU-second of a float32 product), `memory` (peak resident bytes since the start)."""
    torch.manual_seed(0)
    peer, batch = load(folder, plain), batch_of(folder)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=3e-5, betas=(0.9, 0.999), weight_decay=1e-5, fused=True)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(peer(*batch))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    @torch.inference_mode()
    def infer() -> float:
        return float(loss_of(peer(*batch)))

    peer.train(what == "train")
    answer(lambda: {"loss": (train if what == "train" else infer)()}, gemm)


def gemm() -> float:
    a, b = torch.randn(1024, 768), torch.randn(768, 3072)
    start, count = time.process_time(), 0
    while time.process_time() - start < 0.3:
        torch.mm(a, b)
        count += 1
    return 2.0 * count * 1024 * 768 * 3072 / (time.process_time() - start)


def answer(run: Any, gemm: Any) -> None:
    print(json.dumps({"ready": True, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        if line.strip() == "run":
            said = run()
            said["cpu_s"] = time.process_time() - start
        elif line.strip() == "gemm":
            said = {"flops_per_s": gemm()}
        else:
            said = {"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        print(json.dumps(said), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="*", type=Path, help="folders with the released model's numbers")
    parser.add_argument("--folder", type=Path, help="config.json, state_dict.safetensors and batch.npz")
    parser.add_argument("--what", choices=("train", "infer"), default="train")
    parser.add_argument("--attention", choices=("sdpa", "plain"), default="sdpa")
    parser.add_argument("--core", type=int, help="the one core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    plain = options.attention == "plain"
    for folder in options.check or ():
        print(json.dumps({"folder": folder.name, "largest_relative_error": check(folder, plain)}))
    if options.folder:
        serve(options.folder, options.what, plain)


if __name__ == "__main__":
    main()
