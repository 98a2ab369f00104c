"""Writes a checkpoint under the released names of CMR-CLIP:
`python -m cmr_jax.bin.export_weights --workdir W --out DIR`.

Back in: `cmr_jax.models.pretrained.load_cmrclip`, or train with --config.model.video.init_from and
--config.model.text.init_from naming the written state_dict.safetensors.
"""

from pathlib import Path

from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError
from cmr_jax.evals.embed import open_run
from cmr_jax.models.pretrained import export_cmrclip, released_rules

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a training run.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Or one checkpoint of it, WORKDIR/checkpoints/00000400.")
_STEP = flags.DEFINE_integer("step", None, "Step to take from --workdir; default the newest undamaged one.")
_OUT = flags.DEFINE_string("out", None, "Where state_dict.safetensors, config.json and the tokenizer go.")


def _main() -> None:
    if not _OUT.value:
        raise InputError("give --out (see --help)")
    run, params, _, origin = open_run(_WORKDIR.value, _CHECKPOINT.value, _STEP.value)
    names = len(released_rules(run.config.model))
    export_cmrclip(params, run.config.model, _OUT.value)
    run.tokenizer.save(Path(_OUT.value))
    print(f"{names} parameters of step {origin['checkpoint_step']} in {_OUT.value}")


def main() -> None:
    cli.run(_main)


if __name__ == "__main__":
    main()
