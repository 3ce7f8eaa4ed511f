"""Stage two: search, training, evaluation and report on the stores; no audio, no pretrained model, no network."""
