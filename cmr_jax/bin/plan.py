"""Compiles the train step for chips that are not here: `python -m cmr_jax.bin.plan --config C --topology v5e:4x4`."""

import dataclasses
import json
import os
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from cmr_jax import cli, config
from cmr_jax.errors import InputError

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Experiment, such as configs/cmrclip_64.py.")
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:4x4", "What to plan for: v5e:4x4, 2*v5e:4x4 (two slices), h100:8.")
_OUT = flags.DEFINE_string("out", None, "JSON file of the plan.")
# Any answers do: they keep libtpu from asking a network that is not there.
_LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# The vocabulary belongs to the data, which a plan has not: that of Bio_ClinicalBERT, where the config leaves it open.
_VOCAB_SIZE = 28_996


def _main() -> None:
    if _CONFIG.value is None or not _OUT.value:
        raise InputError("give --config and --out (see --help)")
    try:
        settings = config.from_dict(_CONFIG.value.to_dict(preserve_field_references=False))
    except OSError:  # config_flags puts a file it could not load off to the first use
        raise InputError("no config file there: --config names a file such as configs/demo.py") from None
    out = Path(_OUT.value)
    if not out.parent.is_dir():
        raise InputError("--out: its folder does not exist")
    # The compiler for TPUs runs on this machine's CPU. libtpu would look for chips and their hosts otherwise.
    os.environ["JAX_PLATFORMS"] = "cpu"
    for name, value in _LIBTPU.items():
        os.environ.setdefault(name, value)
    # Imported after the environment is set.
    from cmr_jax.data import schema
    from cmr_jax.models import flops
    from cmr_jax.models.build import build
    from cmr_jax.train import plan

    if not settings.model.text.vocab_size:
        text = dataclasses.replace(settings.model.text, vocab_size=_VOCAB_SIZE)
        settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, text=text))
    chip, devices = plan.devices_of(_TOPOLOGY.value)
    print(f"compiling for {len(devices)} chips; a large model takes minutes", flush=True)
    model = build(settings.model, len(schema.VIEWS))
    counted = {
        "flops": flops.train_step(settings),
        "recomputed_flops": flops.recomputed(settings),
    }
    made = plan.make_plan(settings, model, chip, devices, **counted)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(json.dumps({"topology": _TOPOLOGY.value, **made.to_dict()}, indent=2) + "\n", encoding="utf-8")
    partial.replace(out)
    print(plan.describe(made))


def main() -> None:
    """The console script cmr-plan."""
    cli.run(_main)


if __name__ == "__main__":
    main()
