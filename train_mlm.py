"""Strategy B, first half: adapt BERT to unlabelled reviews by masked-language modelling.

The lab's experiment (bert-base-uncased on IMDB's unlabelled reviews, from the Hugging Face Hub):

    python train_mlm.py && python train_finetune.py

Without a Hub, with the embedded model and sentences:

    python train_mlm.py sentiment/config/offline_mlm.yaml

On reviews of your own, one a line, for a classifier to be trained on labelled ones:

    python train_mlm.py --dataset unlabelled.txt --target_dataset labelled.csv
"""

from sentiment.cli import run_command
from sentiment.pipelines.adaptation import main

if __name__ == "__main__":
    run_command(main)
