"""Strategy B, second half: fine-tune the adapted BERT on labelled reviews, lower layers more gently.

After `python train_mlm.py`, whose model in outputs/mlm is the default:

    python train_finetune.py

Without a Hub, after `python train_mlm.py sentiment/config/offline_mlm.yaml`:

    python train_finetune.py sentiment/config/offline_finetune.yaml
"""

from sentiment.cli import run_command
from sentiment.pipelines.finetuning import main

if __name__ == "__main__":
    run_command(main, strategy="finetune")
