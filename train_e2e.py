"""Strategy A: fine-tune BERT end to end on labelled reviews.

The lab's experiment (bert-base-uncased on SST-2's first 10,000 rows, from the Hugging Face Hub):

    accelerate launch --quiet train_e2e.py

Without a Hub, with the embedded model and reviews:

    accelerate launch --quiet train_e2e.py sentiment/config/offline.yaml

On two CPU processes (on a machine with a GPU, with CUDA_VISIBLE_DEVICES set to nothing):

    torchrun --nproc_per_node 2 train_e2e.py sentiment/config/offline.yaml
"""

from sentiment.cli import run_command
from sentiment.pipelines.finetuning import main

if __name__ == "__main__":
    run_command(main, strategy="e2e")
